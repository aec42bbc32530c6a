"""Predicting a layer from the one below it: what is found in moments, and when it is used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantize.buffers import allocate
from quantize.geometry import Geometry, LayerHeads
from quantize.park.bases import Bases
from quantize.park.below import BELOW, group_below
from quantize.park.calibrate import LEAST, Calibration, transforms
from quantize.park.choice import worth_it
from quantize.park.codec import CODECS, Job, Setting
from quantize.park.file import ParkReader
from quantize.park.parking import ModelFacts, park, unpark
from quantize.park.plain import SIDES, Frame, Source, Target
from quantize.park.profile import Profile
from quantize.park.transform import TransformCodec
from quantize.state import SavedState
from tests.park.samples import N_VOCAB, Vectors, turning

GEOMETRY = Geometry.uniform(4, 16, 16, 2)
FACTS = ModelFacts("m" * 32, Frame(GEOMETRY, turning(GEOMETRY)), Vectors())
N = 1500
F16 = 1


def learned() -> TransformCodec:
    found = CODECS["learned"]
    assert isinstance(found, TransformCodec)
    return found


def relation(seed: int) -> np.ndarray[Any, Any]:
    """How a layer follows from the one below, shape (64, 64)."""
    return np.random.default_rng(seed).normal(size=(64, 64)) / 8


def text(seed: int) -> tuple[SavedState, list[int]]:
    """Layers 1 and 2 follow from the one below them, all but a tenth; layers 0 and 3 from nothing. The token
    has a share in all."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, N_VOCAB, N)
    spread = np.geomspace(2, 0.1, 64)
    layers = [rng.normal(size=(N, 64)) * spread]
    for number in (1, 2):
        layers.append(layers[-1] @ relation(number) + 0.1 * rng.normal(size=(N, 64)))
    layers.append(rng.normal(size=(N, 64)) * spread)
    shares = np.random.default_rng(9).normal(size=(4, 16, 64))
    target = Target(FACTS.frame, [np.arange(N, dtype=np.int32)], F16, F16)
    target.begin(allocate(target.size))
    for i, x in enumerate(layers):
        whole = (x + Vectors().rows(tokens) @ shares[i]).astype(np.float32)
        for side, part in zip(SIDES, (whole[:, :32], whole[:, 32:]), strict=True):
            target.put(0, i, side, 0, part)
    return target.finish(), [int(t) for t in tokens]


@pytest.fixture(scope="module")
def bases() -> Bases:
    """From the moments of four texts, every layer weighing the same."""
    nobody: Any = None  # no model is read here
    calibration = Calibration(nobody, FACTS, [0] * LEAST, Path("nothing"))
    for seed in range(4):
        calibration.add(*text(seed))
    codec = learned()
    groups = codec.groups(FACTS.frame)
    return Bases(codec.name, codec.predicts, groups, FACTS.frame, calibration.sums, lambda group: np.eye(64))


def plain(bases: Bases) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for i in range(4):
        arrays |= bases.plain(i)
    return arrays


def chosen(bases: Bases, seed: int) -> dict[str, Any]:
    state, tokens = text(seed)
    source = Source(state, FACTS.frame)
    ids = np.array(tokens, np.int32)
    before = np.concatenate([np.array([-1], np.int32), ids[:-1]])
    job = Job(FACTS.frame, Setting("learned", 0.05), (N,), (ids,), (before,), None, FACTS.embedding)
    return worth_it(learned(), source, job, plain(bases), [bases.predicted(i) for i in range(4)])


def test_what_a_layer_tells_is_found_in_the_moments(bases: Bases) -> None:
    assert bases.predicted(0) == {}
    for i in (1, 2):
        found = bases.predicted(i)[f"learned.{BELOW}.{i}"]
        np.testing.assert_allclose(found, relation(i), atol=0.05)
    nothing = bases.predicted(3)[f"learned.{BELOW}.3"].astype(np.float32)
    assert np.median(np.abs(nothing)) < 0.4 * np.median(np.abs(relation(1)))


def test_it_is_used_where_it_makes_the_code_of_another_text_shorter(bases: Bases) -> None:
    found = chosen(bases, 7)
    assert {name for name in found if BELOW in name} == {f"learned.{BELOW}.1", f"learned.{BELOW}.2"}
    assert {f"learned.basis.{i}" in found for i in (1, 2)} == {True}
    assert "learned.basis.3" not in found


def test_a_file_is_smaller_for_it_and_comes_back_as_well(bases: Bases, tmp_path: Path) -> None:
    state, tokens = text(8)
    sizes, errors = [], []
    for more in ({}, chosen(bases, 7)):
        profile = Profile(FACTS.fingerprint, plain(bases) | more)
        profile.seal()
        facts = replace(FACTS, profile=profile)
        parked = park(state, tokens, facts, Setting("learned", 0.05), tmp_path / "a.park")
        assert parked is not None
        sizes.append(parked.n_bytes)
        with ParkReader(tmp_path / "a.park") as reader:
            back = unpark(reader, facts, F16, F16, allocate)
        a, b = Source(state, FACTS.frame), Source(back, FACTS.frame)
        errors.append(
            max(
                float(np.sqrt(np.mean(np.square(a.plain(0, i, s, 0, N) - b.plain(0, i, s, 0, N)))))
                for i in range(4)
                for s in SIDES
            )
        )
    assert sizes[1] < 0.85 * sizes[0]
    assert max(errors) < 0.02
    assert errors[1] < 1.1 * errors[0]


def test_the_layer_below_holds_the_same_of_the_same_cache() -> None:
    together = learned().groups(FACTS.frame)
    assert [group_below(together, i) for i in range(4)] == [None, 0, 1, 2]
    large = Geometry.uniform(3, 128, 128, 8)
    wide = learned().groups(Frame(large, turning(large)))  # K and V apart
    assert [group_below(wide, i) for i in range(6)] == [None, None, 0, 1, 2, 3]
    heads = LayerHeads(64, 64, 2)
    both = Geometry.sliding([(heads, i % 2 == 0) for i in range(4)])
    sliding = learned().groups(Frame(both, turning(both)))
    assert [group_below(sliding, i) for i in range(4)] == [None, 0, None, 2]


def test_only_codecs_that_know_the_tokens_look_below() -> None:
    assert [c.name for c in transforms() if c.predicts] == ["learned"]
