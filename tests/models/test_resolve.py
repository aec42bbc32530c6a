"""Names and paths of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.resolve import BUILTIN, display_name, resolve
from quantize.errors import ModelFileError, ModelNotFoundError


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_names(name: str) -> None:
    path = resolve(name)
    assert path.is_file() and display_name(path) == name


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "my model.gguf"
    file.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(file), "my model.gguf", "./my model.gguf", "~/my model.gguf"):
        assert resolve(name) == file
    assert display_name(file) == "my model"


@pytest.mark.parametrize("name", ["", "none", "a\0b", "x" * 5000, "~nobody/x", "-"])
def test_what_is_no_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ModelNotFoundError, ModelFileError)):
        resolve(name)


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is a directory"):
        resolve(str(tmp_path))
