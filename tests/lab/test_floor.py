"""The noise floor: what it changes, what it says, and that it stops nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import quantize.lab.floor
from app.lab.eval_report import EvalTable, floor_lines
from app.lab.status_line import StatusLine
from models.candidates import candidates
from models.header import read_header
from models.plan import Planner
from quantize.lab.evaluate import EvalPlan, Floor, Progress, Row, evaluate
from quantize.lab.floor import NOISE, add_noise, measure_floor
from quantize.lab.notebook import Notebook
from quantize.lab.process import LabProcess
from quantize.lab.setting import parse_setting
from quantize.lab.subject import Workbench
from quantize.lab.text import built_in_text
from quantize.state import read_state
from tests.lab.conftest import opening_of_file
from tests.synthetic import SyntheticModels

TOKENS = [int(t) for t in np.random.default_rng(4).integers(3, 500, 90)]


KINDS = ["llama", "gemma3", "qwen2vl", "deepseek2", "granitehybrid"]
"""One cache, two of them, positions in two dimensions, latent attention, partly recurrent."""


@pytest.mark.parametrize("name", KINDS)
def test_noise_makes_a_floor_and_nothing_makes_none(
    bench: Callable[..., Workbench], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state put back unchanged answers exactly as before; so the floor is the noise's alone."""
    model = bench(name)
    read: list[int] = []
    floor = measure_floor(model, TOKENS, batch=16, on_progress=read.append)
    assert floor.n_tokens == 44 and floor.kld_mean > 0
    assert read == sorted(read) and read[-1] == 45 + 2 * 44
    assert measure_floor(model, TOKENS, batch=16) == floor
    monkeypatch.setattr(quantize.lab.floor, "NOISE", 0.0)
    assert measure_floor(model, TOKENS, batch=16).kld_max == 0


def test_k_and_v_change_by_half_a_rounding_step(bench: Callable[..., Workbench]) -> None:
    with bench("gemma3").open(1, 1, n_ctx=256, n_batch=64) as subject:
        subject.read(TOKENS, 0)
        data = np.zeros(subject.context.state_size(), np.uint8)
        state = read_state(data[: subject.context.save_state(data)])
    before = read_state(state.data.copy())
    add_noise(state, NOISE)
    changed = np.zeros(state.data.size, bool)
    for part in state.parts:
        for rows in (*part.k, *part.v):
            place = slice(rows.offset, rows.offset + rows.size)
            a, b = (s.data[place].view(np.float16).astype(np.float64) for s in (before, state))
            relative = (b - a)[a != 0] / a[a != 0]
            assert NOISE / 2 < relative.std() < 2 * NOISE and abs(relative.mean()) < NOISE / 10
            changed[place] = True
    assert (state.data[~changed] == before.data[~changed]).all()


def run(path: Path, directory: Path, *, kill: bool = False) -> list[Floor | Row]:
    """An evaluation of q8_0; with ``kill`` the child process ends when it measures the floor."""
    chosen = candidates(Planner(read_header(path)), [parse_setting("q8_0")], 64)
    plan = EvalPlan(built_in_text(), 64, None, 1 << 30)
    notebook, found = Notebook(directory / "notes.json"), []
    with LabProcess(opening_of_file(path), directory / "lab.log") as process:
        for event in evaluate(process, plan, chosen, notebook):
            if not isinstance(event, Progress):
                found.append(event)
            elif kill and event.what == "noise":
                assert process.introduction["event"] == "ready"
                os.kill(process.pid, signal.SIGKILL)
                kill = False
    return found


def test_the_floor_comes_before_the_rows_and_is_kept(synthetic: SyntheticModels, tmp_path: Path) -> None:
    events = run(synthetic("llama"), tmp_path)
    assert isinstance(events[0], Floor) and events[0].kld_mean and not events[0].failed
    assert [event.label for event in events[1:] if isinstance(event, Row)] == ["f16", "q8_0"]
    assert run(synthetic("llama"), tmp_path) == events


def test_without_a_floor_everything_else_is_measured(synthetic: SyntheticModels, tmp_path: Path) -> None:
    """A model without K and V has none."""
    floor, *rows = run(synthetic("mamba"), tmp_path)
    assert isinstance(floor, Floor) and floor.kld_mean is None
    assert all(isinstance(row, Row) and row.kld_mean is not None for row in rows) and rows
    assert floor_lines(floor, []) == [
        "The noise floor is not known: This model keeps no K and V that could be changed."
    ]


def test_a_child_that_dies_of_it_costs_the_floor_alone(synthetic: SyntheticModels, tmp_path: Path) -> None:
    floor, *rows = run(synthetic("llama"), tmp_path, kill=True)
    assert isinstance(floor, Floor) and "ended the process that measured" in floor.failed
    assert [row.kld_mean is not None for row in rows if isinstance(row, Row)] == [True, True]
    assert run(synthetic("llama"), tmp_path)[1:] == rows


def test_what_is_said_of_it(synthetic: SyntheticModels) -> None:
    chosen = candidates(Planner(read_header(synthetic("llama"))), [parse_setting("q8_0")], 64)
    floor = Floor(NOISE, 100, 0.00172, 0.0001, 0.0012, 0.031, 0.963)
    table = EvalTable(chosen, 64, recall=False, colour=False)
    assert table.floor(floor).split() == ["noise", "floor", ".00172", ".0012", ".031", "96.3%"]
    assert table.floor(Floor(failed="no")) == ""

    def row(label: str, kld: float) -> Row:
        return Row(label, "cache", {}, "f16", "f16", 0, 16, 16, 1, 1, 0, 64, kld_mean=kld)

    rows = [row("f16", 0), row("q8_0", 0.0016), row("q5_0", 0.0018)]
    said = floor_lines(floor, rows)
    assert said[0].startswith("Differences below .00172 mean nothing")
    assert said[1] == "Not to be told from f16: q8_0"
    assert len(floor_lines(floor, [rows[0], rows[2]])) == 1
    assert floor_lines(None, rows) == []
    assert floor_lines(Floor(kld_mean=0.0), rows) == [
        "Rounding noise on K and V changes no answer here: every difference counts."
    ]


def test_a_long_run_says_in_a_file_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line of its own four times per minute; nothing in a run of seconds."""
    now = [100.0]
    monkeypatch.setattr("app.lab.status_line.monotonic", lambda: now[0])
    line = StatusLine(watched=False)
    for second in range(40):
        now[0] = 100.0 + second
        line.show(f"{second} seconds")
    line.clear()
    assert capsys.readouterr().err == "15 seconds\n30 seconds\n"
    line = StatusLine(watched=True)
    line.show("now")
    line.clear()
    assert "\x1b[2Know" in capsys.readouterr().err
