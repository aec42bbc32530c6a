"""The file of a model's losses, and what is answered from it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.loss_estimate import KFacts
from models.loss_store import MOST_BYTES, VERSION, LossStore, store_path
from models.model_losses import ModelLosses, losses_of
from models.splits import read_model
from models.stretch_row import StretchRow
from quantize.cache_types import parse_cache
from quantize.lab.loss import Loss, Verdict
from quantize.lab.setting import parse_setting
from tests.synthetic import SyntheticModels

TQ3 = parse_setting("tq3+256")
SMALL = Loss(0.012, 0.96, measured=True, n_tokens=96)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return store_path(tmp_path / "calibrations", "0123")


def test_it_comes_back(place: Path) -> None:
    store = LossStore(place)
    store.put_floor(0.002)
    store.put(TQ3, SMALL)
    again = LossStore(place)
    assert again.get(TQ3) == replace(SMALL, floor=0.002)
    assert again.get(parse_setting("tq3")) is None
    assert LossStore(place, "stock").get(TQ3) is None, "another kernel reads the rows otherwise"
    again.clear()
    assert not place.exists()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0" * 100,
        b"[]",
        b'{"version": 1}',
        b"{" * (MOST_BYTES + 2),
        b'{"version": 1, "kernel": "own", "floor": 0.002, "losses": {"tq3+256": [NaN, 0.9, 96]}}',
        b'{"version": 1, "kernel": "own", "floor": 1e999, "losses": {}}',
        b'{"version": 1, "kernel": "own", "floor": 0.002, "losses": {"tq3+256": [0.01, 1.5, 96]}}',
        b'{"version": 1, "kernel": "own", "floor": 0.002, "losses": {"tq3+256": ["a", "b", "c"]}}',
        b'{"version": 1, "kernel": "own", "floor": 0.002, "losses": {"no type": [0.01, 0.9, 96]}}',
    ],
)
def test_a_damaged_file_holds_nothing(place: Path, damage: bytes) -> None:
    place.parent.mkdir()
    place.write_bytes(damage)
    store = LossStore(place)
    assert (store.losses, store.floor) == ({}, -1.0)
    store.put(TQ3, SMALL)
    assert LossStore(place).get(TQ3) == replace(SMALL, floor=0.0)


@given(st.binary(max_size=300))
def test_no_bytes_break_it(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    place = tmp_path_factory.mktemp("store") / "x.losses"
    place.write_bytes(data)
    LossStore(place)


def test_an_older_version_is_measured_again(place: Path) -> None:
    LossStore(place).put(TQ3, SMALL)
    data = json.loads(place.read_text())
    place.write_text(json.dumps(data | {"version": VERSION - 1}))
    assert LossStore(place).get(TQ3) is None


def test_a_place_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "calibrations").write_text("a file")
    store = LossStore(store_path(tmp_path / "calibrations", "0123"))
    store.put(TQ3, SMALL)
    assert store.get(TQ3) is not None


def losses(gain: float = 1.0) -> ModelLosses:
    return ModelLosses(KFacts(gain=gain), LossStore(None))


def test_what_is_measured_goes_before_the_estimate_and_bounds_others() -> None:
    found = losses()
    pair, _ = parse_cache("tq3")
    guess = found.of(pair, 256)
    assert not guess.measured
    found.store.put_floor(0.004)
    found.store.put(TQ3, SMALL)
    assert found.of(pair, 256) == replace(SMALL, floor=0.004)
    longer = found.of(pair, 512)
    assert (longer.kld, longer.measured) == (SMALL.kld, False)
    assert found.of(pair, 0).kld > SMALL.kld
    found.store.put(TQ3, Loss(3.0, 0.1, measured=True, n_tokens=96))
    assert found.of(pair, 0).breaks


def test_more_bits_on_a_side_lose_no_more_than_what_was_measured() -> None:
    found = losses(gain=100.0)
    found.store.put_floor(0.002)
    found.store.put(parse_setting("tq4+256"), SMALL)
    for label in ("q8_0/tq4", "f16/tq4", "tq4/q8_0"):
        pair, _ = parse_cache(label)
        guess = found.of(pair, 256)
        assert (guess.kld <= SMALL.kld, guess.measured) == (True, False), label
    assert found.of(parse_cache("q5_0/tq4")[0], 256).breaks, "of fewer than 8 bits nothing follows"


def row(label: str, kib: float) -> StretchRow:
    pair, tail = parse_cache(label)
    return StretchRow(pair.k.name, pair.v.name, tail or 0, kib * 1024, int(kib * 1024), 100, 100, "memory")


def test_the_warning_names_the_side_and_the_smallest_that_is_good() -> None:
    found = losses(gain=100.0)
    for label, kld, top1 in (("q8_0", 0.006, 0.96), ("q8_0/tq3+256", 0.01, 0.95), ("q4_0", 2.6, 0.06)):
        found.store.put(parse_setting(label), Loss(kld, top1, measured=True, n_tokens=96))
    rows = found.with_losses([row("q4_0", 5), row("f16", 16), row("q8_0/tq3+256", 10.2), row("q8_0", 12)])
    assert [r.name for r in rows] == ["f16", "q8_0", "q8_0/tq3+256", "q4_0"]
    pair, _ = parse_cache("q4_0")
    assert found.warning(pair, 0, rows) == (
        "K in q4_0 breaks this model: 6% of the next words stay the same. q8_0/tq3+256 takes 10.2 KiB "
        "a token and loses nothing that you would see."
    )
    assert found.warning(parse_cache("q8_0")[0], 0, rows) == ""


def test_a_model_has_a_file_of_its_own(synthetic: SyntheticModels, tmp_path: Path) -> None:
    path, other = synthetic("llama"), synthetic("huge_bias_qwen2")
    first = losses_of(read_model(path), path, tmp_path)
    first.store.put(TQ3, SMALL)
    assert losses_of(read_model(path), path, tmp_path).of(TQ3.pair, 256).measured
    stock = losses_of(read_model(other), other, tmp_path, kernel="stock")
    assert stock.of(TQ3.pair, 256).verdict == Verdict.BREAKS
    assert losses_of(read_model(other), other, tmp_path).of(TQ3.pair, 256).verdict < Verdict.BREAKS
