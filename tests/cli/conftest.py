"""Runs the command as a person does: a process of its own, with files of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a person whose files are below ``tmp_path/home``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("STRETCH_", "PYTHON"))}
    return kept | {"STRETCH_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "COLUMNS": "100"}


@pytest.fixture
def stretch(environment: dict[str, str], tmp_path: Path) -> Run:
    """``stretch("run", "-p", "hi")`` gives the finished process."""

    def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        settings: dict[str, object] = {"stdin": subprocess.DEVNULL, "env": environment, "cwd": tmp_path}
        return subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            capture_output=True,
            text=True,
            check=False,
            **(settings | options),  # type: ignore[call-overload]
        )

    return run
