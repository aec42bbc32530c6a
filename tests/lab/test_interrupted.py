"""What was measured outlives the death of the processes and an interruption; the rest is measured then."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pytest

from models.candidates import candidates
from models.header import read_header
from models.plan import Planner
from quantize.errors import EngineDiedError
from quantize.lab.evaluate import EvalPlan, Progress, Row, evaluate
from quantize.lab.notebook import Notebook, fingerprint, key_of
from quantize.lab.process import LabProcess
from quantize.lab.recall import ChatShape, RecallTask
from quantize.lab.setting import parse_setting
from quantize.lab.text import built_in_text
from tests.cli.conftest import Run
from tests.lab.conftest import opening_of_file
from tests.synthetic import SyntheticModels

SETTINGS = "q8_0,q5_0,q5_1,q4_1,q4_0,iq4_nl,q8_0/q4_0"
"""More than are measured side by side: some are finished before others begin."""
LABELS = ["f16", *SETTINGS.split(",")]


@pytest.fixture
def command(synthetic: SyntheticModels) -> list[str]:
    """An evaluation that takes a second or two."""
    sizes = ["--ctx", "64", "--questions", "2", "--recall-ctx", "128", "--threads", "1"]
    return ["eval", str(synthetic("llama")), *sizes, "--json", "lines", "--kv", SETTINGS]


@contextmanager
def running(
    command: list[str], environment: dict[str, str], **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", *command],
        stdin=subprocess.DEVNULL,
        env=environment,
        bufsize=0,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(out: IO[bytes], label: str) -> None:
    """Read the events of ``--json lines`` up to the row of a setting.

    Nothing after it: the pipe holds few of the other rows, so the command waits and cannot finish.
    """
    while event := json.loads(out.readline()):
        if event["event"] == "row" and event["label"] == label:
            return


def events_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def rows_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [event for event in events_of(done) if event["event"] == "row"]


def measured_in(done: subprocess.CompletedProcess[str]) -> set[tuple[str, str]]:
    """What was measured, and of which setting, in this run."""
    return {
        (event["what"], label)
        for event in events_of(done)
        if event["event"] == "progress"
        for label in event["labels"].split(", ")
    }


def small_pipe(out: IO[bytes]) -> None:
    """Let the pipe hold a page."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, 4096)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_the_same_command_goes_on(
    number: signal.Signals,
    command: list[str],
    stretch: Run,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with running(command, environment, **pipes) as process:
        out = cast(IO[bytes], process.stdout)
        small_pipe(out)
        read_until(out, "q8_0")
        process.send_signal(number)
        _, said = process.communicate()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert said.decode().strip() == "What was measured is kept: the same command goes on from here."
    else:
        assert process.returncode == -signal.SIGKILL
    (place,) = (tmp_path / "home" / "cache" / "eval").glob("*.json")
    kept = json.loads(place.read_text())
    assert {"divergence f16", "divergence q8_0", "recall f16", "recall q8_0"} <= set(kept)
    assert "recall q8_0/q4_0" not in kept

    resumed = stretch(*command)
    again = measured_in(resumed)
    assert not again & {(what, label) for what in ("answers", "recall") for label in ("f16", "q8_0")}
    assert ("recall", "q8_0/q4_0") in again

    elsewhere = environment | {"STRETCH_HOME": str(tmp_path / "other")}
    whole = stretch(*command, env=elsewhere)
    assert {label for what, label in measured_in(whole) if what == "recall"} == set(LABELS)
    assert [row["label"] for row in rows_of(whole)] == LABELS
    assert rows_of(resumed) == rows_of(whole)
    events = [events_of(done)[-1] for done in (resumed, whole)]
    assert events[0] == events[1] and events[0]["event"] == "verdict"

    known = stretch(*command)
    assert not measured_in(known) and rows_of(known) == rows_of(whole)
    fresh = stretch(*command, "--fresh")
    assert measured_in(fresh) == measured_in(whole)


def test_ctrl_c_ends_a_benchmark_too(synthetic: SyntheticModels, environment: dict[str, str]) -> None:
    """It keeps nothing, and says so. The status line on a terminal shows when it measures."""
    master, slave = os.openpty()
    command = ["bench", str(synthetic("llama")), "--kv", "q8_0", "--depth", "16", "--repeats", "100000"]
    with running(command, environment, stdout=subprocess.PIPE, stderr=slave) as process:
        os.close(slave)
        said = b""
        while b"kernel, " not in said:
            said += os.read(master, 4096)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
        with contextlib.suppress(OSError):  # how the end of a terminal looks on Linux
            while more := os.read(master, 4096):
                said += more
    os.close(master)
    assert (process.returncode, out) == (130, b""), said
    assert b"Nothing is kept of a benchmark that was interrupted" in said


class Lab:
    """An evaluation without the command, whose child process a test can kill."""

    def __init__(self, path: Path, directory: Path, labels: str) -> None:
        header = read_header(path)
        settings = [parse_setting(label) for label in labels.split(",")]
        self.candidates = candidates(Planner(header), settings, 64)
        self.plan = EvalPlan(built_in_text(), 64, RecallTask(128, 2, 2, ChatShape("", "", "")), 1 << 30)
        self.opening = opening_of_file(path)
        self.log = directory / "lab.log"

    def run(self, notebook: Notebook, kill_at: tuple[str, str] | None = None) -> list[Row]:
        """All rows.

        Args:
            kill_at: what begins to be measured, and of which settings, when the child is killed.
        """
        rows = []
        with LabProcess(self.opening, self.log) as process:
            for event in evaluate(process, self.plan, self.candidates, notebook):
                if isinstance(event, Row):
                    rows.append(event)
                elif isinstance(event, Progress) and (event.what, event.labels) == kill_at:
                    assert process.introduction["event"] == "ready"
                    os.kill(process.pid, signal.SIGKILL)
                    kill_at = None
        assert kill_at is None
        return rows


def test_a_child_that_dies_costs_nothing_but_time(synthetic: SyntheticModels, tmp_path: Path) -> None:
    """Settings that were measured side by side are measured again, one by one."""
    lab = Lab(synthetic("llama"), tmp_path, "q8_0,q4_0")
    whole = lab.run(Notebook(None))
    assert all(row.kld_mean is not None and row.recall_asked == 2 for row in whole)
    assert lab.run(Notebook(None), ("answers", "q8_0, q4_0")) == whole


@pytest.mark.parametrize("what", ["answers", "recall"])
def test_what_died_alone_is_measured_the_next_time(
    what: str, synthetic: SyntheticModels, tmp_path: Path
) -> None:
    lab = Lab(synthetic("llama"), tmp_path, "q4_0")
    whole = lab.run(Notebook(None))
    place = tmp_path / "notes.json"
    reference, failed = lab.run(Notebook(place), (what, "q4_0"))
    assert reference == whole[0]
    assert "ended the process that measured" in failed.failed
    assert (failed.kld_mean is None) == (what == "answers")
    assert lab.run(Notebook(place)) == whole


def test_the_death_of_the_reference_is_an_error(synthetic: SyntheticModels, tmp_path: Path) -> None:
    lab = Lab(synthetic("llama"), tmp_path, "f16")
    place = tmp_path / "notes.json"
    with pytest.raises(EngineDiedError, match="ended the process that measured"):
        lab.run(Notebook(place), ("recall", "f16"))
    assert "divergence f16" in Notebook(place) and "recall f16" not in Notebook(place)
    assert lab.run(Notebook(place)) == lab.run(Notebook(None))


def test_a_notebook_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "deep" / "notes.json"
    notebook = Notebook(place)
    notebook.put("a", {"x": 1.5})
    assert Notebook(place).get("a") == {"x": 1.5}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt  # after the new text was written, before it takes the old one's place

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            notebook.put("b", {"x": 2})
    assert "b" not in Notebook(place) and Notebook(place).get("a") == {"x": 1.5}
    notebook.put("c", {})
    assert [name in Notebook(place) for name in "abc"] == [True] * 3


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', "\x00"])
def test_a_damaged_notebook_is_an_empty_one(text: str, tmp_path: Path) -> None:
    place = tmp_path / "notes.json"
    place.write_text(text)
    notebook = Notebook(place)
    assert "a" not in notebook
    notebook.put("b", {"x": 1})
    assert Notebook(place).get("b") == {"x": 1}


def test_a_notebook_that_cannot_be_written_still_serves(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    notebook = Notebook(tmp_path / "file" / "notes.json")
    notebook.put("a", {"x": 1})
    assert notebook.get("a") == {"x": 1}


def test_another_model_has_another_notebook(tmp_path: Path) -> None:
    data = bytes(range(256)) * 50_000
    variants = {
        "same": data,
        "longer": data + b"x",
        "other": data[:5_000_000] + b"y" * 400_000 + data[5_400_000:],
    }
    marks = {}
    for name, content in variants.items():
        (tmp_path / name).write_bytes(content)
        marks[name] = fingerprint(tmp_path / name)
    (tmp_path / "again").write_bytes(data)
    assert fingerprint(tmp_path / "again") == marks["same"]
    assert len(set(marks.values())) == 3
    assert key_of("a", 1) == key_of("a", 1) != key_of("a1") != key_of("a", 2)
