"""The engine measures what its cache settings cost while nothing else is to be done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.engine.protocol import (
    Ask,
    CacheChanged,
    CachePreview,
    CountTokens,
    Failed,
    Load,
    Loaded,
    MeasureLoss,
    SetCache,
    Status,
    TokenCount,
)
from models.loss_store import LossStore
from models.model_losses import losses_of
from models.splits import read_model
from models.stretch_row import StretchRow
from quantize.lab.loss import Verdict
from tests.engine.harness import Harness, user
from tests.synthetic import SyntheticModels


def measured(harness: Harness) -> Status:
    """The first figures in which every row is measured."""
    while True:
        status = harness.until(Status)
        if status.rows and all(row.loss.measured for row in status.rows if not row.refused):
            return status


def by_name(status: Status) -> dict[str, StretchRow]:
    return {row.name: row for row in status.rows}


def load(harness: Harness, path: Path, **more: object) -> Loaded:
    command = Load(harness.next_id(), str(path), 1024, n_threads=1, measure_loss=True, **more)  # type: ignore[arg-type]
    return harness.ask(command, Loaded)


@pytest.fixture
def engine(start_engine: Callable[[], Harness], monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    """With llama.cpp's own kernel, which stores K with its constant: few bits break the made model."""
    monkeypatch.setenv("STRETCH_KERNEL", "stock")
    harness = start_engine()
    yield harness
    harness.client.close()


@pytest.fixture
def huge_bias(synthetic: SyntheticModels) -> Path:
    return synthetic("huge_bias_qwen2", n_vocab=512, seed=11)


def test_every_row_is_measured_at_idle_and_kept(
    engine: Harness, huge_bias: Path, start_engine: Callable[[], Harness], home: Path
) -> None:
    load(engine, huge_bias)
    rows = by_name(measured(engine))
    assert rows["tq3"].loss.verdict == Verdict.BREAKS
    assert rows["q8_0"].loss.verdict < Verdict.BREAKS
    assert rows["q8_0"].loss.n_tokens > 90
    assert [r.loss.excess for r in rows.values()] == sorted(r.loss.excess for r in rows.values())
    other = start_engine()
    load(other, huge_bias)
    status = other.ask(Ask(other.next_id()), Status)
    assert by_name(status) == {n: r for n, r in by_name(status).items() if r.loss.measured}
    assert {n: r.loss for n, r in by_name(status).items()} == {n: r.loss for n, r in rows.items()}
    other.client.close()


def test_without_its_constant_few_bits_of_k_do_not_break_it(
    huge_bias: Path, start_engine: Callable[[], Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRETCH_KERNEL", "own")
    engine = start_engine()
    load(engine, huge_bias)
    rows = by_name(measured(engine))
    assert rows["tq3+256"].loss.verdict < Verdict.BREAKS
    assert rows["tq3+256"].loss.kld < 0.1
    engine.client.close()


def test_any_command_interrupts_it_and_it_goes_on(engine: Harness, synthetic: SyntheticModels) -> None:
    """Commands arrive without a pause; the figures are the same as without them."""
    path = synthetic("huge_bias_qwen2", seed=12)
    load(engine, path)
    engine.ask(MeasureLoss(engine.next_id()), Status)  # at once
    first = by_name(measured(engine))
    engine.send(MeasureLoss(engine.next_id()))
    while True:
        engine.ask(CountTokens(engine.next_id(), "sea"), TokenCount)
        status = engine.ask(Ask(engine.next_id()), Status)
        if all(row.loss.measured for row in status.rows):
            break
    assert {n: r.loss for n, r in by_name(status).items()} == {n: r.loss for n, r in first.items()}


def test_a_reply_between_two_slices_is_as_without_it(engine: Harness, synthetic: SyntheticModels) -> None:
    path = synthetic("huge_bias_qwen2", seed=13)
    engine.load(path, 1024)
    alone = engine.generate(user("Hello"))
    load(engine, path)
    engine.send(MeasureLoss(engine.next_id()))
    beside = engine.generate(user("Hello"))
    assert beside.text == alone.text
    assert {r.loss.measured for r in measured(engine).rows} == {True}


def test_a_setting_that_breaks_the_model_has_to_be_asked_for(engine: Harness, huge_bias: Path) -> None:
    """By measurement or by estimate; accepted it is made."""
    load(engine, huge_bias)
    measured(engine)
    preview = engine.ask(SetCache(engine.next_id(), "q4_0", "q4_0", preview=True), CachePreview)
    assert preview.warning.startswith("K in q4_0 ")
    failed = engine.ask(SetCache(engine.next_id(), "q4_0", "q4_0"), Failed)
    assert failed.kind == "BreaksModelError"
    assert "K in q4_0" in failed.message
    assert "a token and" in failed.message
    changed = engine.ask(SetCache(engine.next_id(), "q4_0", "q4_0", accept_loss=True), CacheChanged)
    assert changed.type_k == "q4_0"
    assert "breaks this model" in changed.sentence


def test_loading_with_such_a_cache_has_to_be_accepted(engine: Harness, huge_bias: Path) -> None:
    command = Load(engine.next_id(), str(huge_bias), 1024, "tq2", "tq2", n_threads=1)
    assert engine.ask(command, Failed).kind == "BreaksModelError"
    loaded = load(engine, huge_bias, type_k="tq2", type_v="tq2", accept_loss=True)
    assert "K in tq2" in loaded.warning


def test_without_the_wish_nothing_is_measured(engine: Harness, synthetic: SyntheticModels) -> None:
    path = synthetic("huge_bias_qwen2", seed=14)
    engine.load(path, 1024)
    status = engine.ask(Ask(engine.next_id()), Status)
    assert status.measuring < 0
    assert not any(row.loss.measured for row in status.rows if row.name != "f16")
    assert all(row.loss.known for row in status.rows)


def test_a_damaged_store_is_measured_again(engine: Harness, synthetic: SyntheticModels, home: Path) -> None:
    path = synthetic("huge_bias_qwen2", seed=15)
    place = losses_of(read_model(path), path, home / "data" / "calibrations").store.place
    assert place is not None
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b'{"version": 1, "kernel": "own", "floor": 0, "losses": {"q8_0": [1e99, 7, "x"]}')
    load(engine, path)
    engine.send(MeasureLoss(engine.next_id()))
    measured(engine)
    assert any(LossStore(place, kernel).losses for kernel in ("own", "stock"))
