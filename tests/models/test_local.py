"""Models on this computer: found wherever they are, judged by their headers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.header import read_header
from models.local import LocalModel, find_in, find_local, hub_cache, judge, judge_file
from models.resolve import BUILTIN, resolve
from tests.synthetic import SyntheticModels

GIB = 1 << 30


def titles(models: list[LocalModel]) -> list[str]:
    return [m.title for m in models]


@pytest.fixture
def folder(tmp_path: Path, synthetic: SyntheticModels) -> Path:
    """A folder with a model, some companions, and what people leave lying about."""
    data = synthetic("llama").read_bytes()
    home = tmp_path / "models"
    (home / "deep" / "er").mkdir(parents=True)
    (home / "alpha.gguf").write_bytes(data)
    (home / "deep" / "er" / "Beta.GGUF").write_bytes(data)
    (home / "mmproj-alpha.gguf").write_bytes(data)
    (home / "alpha.imatrix.gguf").write_bytes(data)
    (home / "alpha.gguf.part").write_bytes(data)
    (home / "readme.txt").write_text("hello")
    (home / "folder.gguf").mkdir()
    return home


def test_models_are_found_in_every_depth_and_companions_are_not_models(folder: Path) -> None:
    assert titles(find_in(folder, "mine")) == ["alpha", "Beta"]


def test_a_split_model_is_one_model_of_all_its_bytes(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"big-{number:05}-of-00003.gguf").write_bytes(b"x" * number)
    (model,) = find_in(tmp_path, "mine")
    assert (model.title, model.n_bytes) == ("big", 6)
    assert model.path.name == "big-00001-of-00003.gguf"


def test_built_in_ones_come_first_and_nothing_comes_twice(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link.gguf").symlink_to(folder / "alpha.gguf")
    found = list(find_local(folder, [str(folder), str(tmp_path)], tmp_path / "no-cache"))
    assert [m.name for m in found[:2]] == list(BUILTIN)
    assert titles(found[2:]).count("alpha") == 1
    assert "link" not in titles(found), "it is the same file"


def test_the_cache_of_the_hub_names_its_repositories(tmp_path: Path, synthetic: SyntheticModels) -> None:
    blob = tmp_path / "models--owner--name" / "blobs" / "abc"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(synthetic("llama").read_bytes())
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "0123" / "model-Q8_0.gguf"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(os.path.relpath(blob, snapshot.parent))
    found = [m for m in find_local(tmp_path / "none", (), tmp_path) if m.name not in BUILTIN]
    assert [(m.title, m.place, m.path) for m in found] == [("model-Q8_0", "owner/name", snapshot)]


def test_rings_and_dead_links_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "ring").symlink_to(tmp_path)
    (tmp_path / "dead.gguf").symlink_to(tmp_path / "gone")
    assert find_in(tmp_path, "mine") == []
    assert find_in(tmp_path / "gone", "mine") == []


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "/a"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
    ],
)
def test_the_cache_is_where_the_hub_s_own_library_puts_it(
    variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_cache() == Path(place)


def test_the_verdict_names_the_best_setting_that_reaches_the_trained_length() -> None:
    verdict = judge_file(resolve("builtin"), 4 * GIB)
    assert verdict.runnable
    assert verdict.sentence == "fits, up to 8k tokens at f16"
    assert len(verdict.rows) >= 5


def test_with_less_memory_a_smaller_cache_is_what_fits() -> None:
    header = read_header(resolve("builtin"))
    enough = judge(header, 4 * GIB).rows[0]
    whole = 4 * GIB
    # Halve the budget until f16 no longer reaches the trained length.
    while judge(header, whole).rows[0].limit == "trained":
        whole = whole * 15 // 16
    verdict = judge(header, whole)
    assert verdict.rows[0].max_ctx < enough.max_ctx
    assert verdict.runnable and "at f16" not in verdict.sentence


def test_a_model_that_does_not_fit_says_what_it_needs() -> None:
    verdict = judge_file(resolve("builtin"), 30 << 20)
    assert not verdict.runnable
    assert verdict.sentence.startswith("needs ") and verdict.sentence.endswith("30 MiB are free")


def test_a_file_that_is_no_model_says_so(tmp_path: Path) -> None:
    wrong = tmp_path / "x.gguf"
    wrong.write_bytes(b"PK\x03\x04")
    verdict = judge_file(wrong, GIB)
    assert not verdict.runnable and "not a GGUF file" in verdict.sentence
    assert not judge_file(tmp_path / "gone.gguf", GIB).runnable
