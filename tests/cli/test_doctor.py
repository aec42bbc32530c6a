"""``stretch doctor`` with the real engine."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from pytest import MonkeyPatch

from app.commands.doctor import engine_rows
from app.doctor.probe import ask, cpu_features
from quantize import native
from tests.cli.conftest import Run


def test_all_is_well(stretch: Run, tmp_path: Path) -> None:
    done = stretch("doctor", "--json")
    report = json.loads(done.stdout)
    assert [(t["name"], t["detail"]) for t in report["tests"] if not t["ok"]] == []
    assert (done.returncode, report["ok"]) == (0, True)
    names = [t["name"] for t in report["tests"]]
    assert "engine starts" in names and "cache switches" in names and "model builtin-ternary" in names
    assert report["libraries"]["types"]["q8_0"] == ""
    assert report["libraries"]["attention"]["ok"] and not report["libraries"]["attention"]["apart"]
    assert "until measured" in report["threads"][""]
    assert report["machine"]["memory_available"] > 0
    assert report["places"]["log"]["path"] == str(tmp_path / "home" / "logs" / "engine.log")
    assert Path(report["places"]["log"]["path"]).exists()


def test_a_damaged_file_is_found(stretch: Run, tmp_path: Path, environment: dict[str, str]) -> None:
    settings = tmp_path / "home" / "config" / "settings.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("temperature = 'hot'\n")
    database = tmp_path / "home" / "data" / "conversations.sqlite3"
    database.parent.mkdir()
    database.write_bytes(b"nonsense" * 1000)
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    done = stretch("doctor", env=environment | {"STRETCH_NATIVE": str(broken)})
    assert done.returncode == 1
    assert "FAIL  settings" in done.stdout
    assert "FAIL  conversations" in done.stdout
    assert "ok    engine starts" in done.stdout
    assert "could not be loaded" in done.stdout
    assert "Something is wrong" in done.stdout


def test_a_kernel_that_computes_something_else_is_named(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    """Its self-test at the start keeps it off; models run with llama.cpp's."""
    path = native.status().path
    assert path is not None
    log2_e, one = struct.pack("<f", 1.4426950408889634), struct.pack("<f", 1.0)
    broken = tmp_path / path.name
    broken.write_bytes(path.read_bytes().replace(log2_e, one))  # a softmax of another base
    monkeypatch.setenv("STRETCH_NATIVE", str(broken))
    rows = dict(engine_rows(ask()))
    assert rows["attention kernel"] == (
        "The attention kernel is off: its results differ from llama.cpp's on this machine."
    )


def test_libraries_that_kill_their_process_are_reported(
    stretch: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A llama_cpp that aborts stands before the real one."""
    fake = tmp_path / "fake" / "llama_cpp"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("import os; os.abort()\n")
    path = f"{fake.parent}:{environment['PYTHONPATH']}"
    done = stretch("doctor", env=environment | {"PYTHONPATH": path})
    assert done.returncode == 1
    assert "SIGABRT" in done.stdout
    assert "FAIL  engine starts" in done.stdout
    assert done.stderr == ""


def test_only_features_that_are_present_count() -> None:
    assert cpu_features("CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 0 | NEON = 11 |") == ["SSE3", "AVX2"]
