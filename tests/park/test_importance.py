"""Tokens and directions that queries look at are coded finely, others coarsely."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.buffers import allocate
from quantize.errors import StateError
from quantize.geometry import Geometry
from quantize.park.bases import Bases
from quantize.park.classes import LARGEST, Classes, multiplier, nearest
from quantize.park.codec import parse
from quantize.park.coded import Coded
from quantize.park.file import ParkReader
from quantize.park.importance import Importance, ages, attention_weights, queries_name
from quantize.park.parking import park, unpark
from quantize.park.plain import Source
from quantize.park.profile import Group, Profile
from quantize.park.sensitivity import Sensitivity, metric
from tests.park.samples import facts_for, state_of

F16 = 1


def output(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    a = np.exp(k @ q - (k @ q).max())
    found: np.ndarray = a / a.sum() @ v
    return found


def test_the_weights_are_what_an_error_changes_in_the_output() -> None:
    rng = np.random.default_rng(0)
    k, v, q = rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), rng.normal(size=4)
    scores = np.asarray(q @ k.T, np.float32)[None]
    of_k, of_v = attention_weights(scores, v.astype(np.float32))
    for t in range(6):
        change = 1e-5 * rng.normal(size=4)
        for weights, size, moved in (
            (of_v, float(change @ change), (k, v + np.eye(6)[t][:, None] * change)),
            (of_k, float(q @ change) ** 2, (k + np.eye(6)[t][:, None] * change, v)),
        ):
            wrong = output(q, *moved) - output(q, k, v)
            assert float(wrong @ wrong) == pytest.approx(weights[0, t] * size, rel=1e-2)


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 30), n=st.integers(1, 300), spread=st.floats(0.01, 200))
def test_classes_and_numbers_come_back_and_keep_to_the_step_of_their_class(
    seed: int, n: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    classes = Classes(rng.integers(-LARGEST, LARGEST + 1, n).astype(np.int32))
    y = (rng.normal(size=(9, n)) * spread * np.geomspace(1, 1e-3, 9)[:, None]).astype(np.float32)
    coded = Coded.of(y[:, classes.order].copy(), 0.1, classes)
    data = coded.pack()
    again = Coded.unpack(data, n, 9)
    if len(coded.kept):
        assert (again.classes.of_token == classes.of_token).all()
    assert (again.z == coded.z).all()
    back = np.zeros_like(y)
    back[again.kept] = again.values(0.1)[:, again.classes.back]
    limit = 0.1 * np.array([multiplier(int(k)) for k in classes.of_token]) + 1e-5 * spread
    assert (np.abs(back - y) <= limit).all()


def test_a_block_that_was_changed_is_refused_or_read_and_never_breaks() -> None:
    rng = np.random.default_rng(1)
    classes = Classes(rng.integers(-3, 4, 80).astype(np.int32))
    data = Coded.of(rng.normal(size=(5, 80)).astype(np.float32), 0.3, classes).pack()
    for _ in range(400):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        cut = bytes(changed[: rng.integers(len(data) + 1)]) if rng.random() < 0.5 else bytes(changed)
        try:
            again = Coded.unpack(cut, 80, 5)
        except StateError:
            continue
        assert again.z.shape == (len(again.kept), 80)


def test_a_wanted_step_is_met_within_a_fifth() -> None:
    wanted = np.geomspace(0.1, 10, 50)
    got = np.array([multiplier(int(k)) for k in nearest(wanted)])
    assert (np.abs(np.log(got / wanted)) <= np.log(1.2)).all()


def test_what_a_query_looks_at_comes_back_closer(tmp_path: Path) -> None:
    facts = facts_for(Geometry.uniform(1, 64, 64, 1), queries=False)
    n = 600
    state, tokens = state_of(facts, (n,))
    source = Source(state, facts.frame)
    assert facts.profile is not None
    wanted = np.array([100, 200, 300])
    # queries that look at three tokens, as they will be seen from behind the end
    k = source.turned(0, 0, "k", 0, n)
    seen = k[wanted] / np.linalg.norm(k[wanted], axis=1, keepdims=True) * 8
    after = (n + np.linspace(0, 255, 3)).astype(np.int32)
    facts.frame.rope_of(0, 0).turn(seen, after, facts.frame.heads(0, 0), back=True)
    arrays = {**facts.profile.arrays, queries_name(0, 0): seen[None].astype(np.float16)}
    profile = Profile(facts.fingerprint, arrays)
    profile.seal()
    looking = replace(facts, profile=profile)
    classes = Importance(source, arrays).classes(0, (0,))
    assert classes[wanted].max() < np.median(classes[12:300]) - 2
    errors = []
    for known in (facts, looking):
        assert park(state, tokens, known, parse("learned:0.2"), tmp_path / "a.park") is not None
        with ParkReader(tmp_path / "a.park") as reader:
            back = Source(unpark(reader, known, F16, F16, allocate), facts.frame)
        wrong = back.turned(0, 0, "k", 0, n) - k
        errors.append(float(np.sqrt(np.square(wrong[wanted]).mean())))
    assert errors[1] < 0.4 * errors[0]


def test_without_queries_age_alone_decides() -> None:
    facts = facts_for(Geometry.uniform(1, 64, 64, 1), queries=False)
    assert facts.profile is not None
    state, _ = state_of(facts, (2000,))
    classes = Importance(Source(state, facts.frame), facts.profile.arrays).classes(0, (0,))
    assert (np.diff(classes) <= 0).all()
    assert (classes == nearest(ages(2000))).all()
    assert classes[0] == 0 > classes[-1]


def test_directions_of_k_that_no_query_sees_cost_little_and_get_coarse() -> None:
    facts = facts_for(Geometry.uniform(1, 64, 64, 1), queries=False)
    state, _ = state_of(facts, (400,))
    rng = np.random.default_rng(2)
    rows = np.zeros((50, 2, 64), np.float32)
    rows[:, :, 62:] = rng.normal(size=(50, 2, 2))  # the pair that turns slowest
    sums: dict[str, np.ndarray] = {}
    source = Source(state, facts.frame)
    asked = Sensitivity(facts.frame, sums.__setitem__).take(source, 0, 0, rows, 0.5)
    assert asked.shape[0] == 1 and asked.shape[2] == 64
    group = Group(0, ((0, "k"), (0, "v")))
    form = metric(facts.frame, sums, {"weight.0": np.ones(1, np.float32)}, group)
    costs = np.diag(form)[:64]
    assert costs[62:].min() > 10 * costs[:62].max()
    assert np.ptp(np.diag(form)[64:]) < 1e-9
    moments = {
        "n.0": np.array([100.0]),
        "x.x.0": np.zeros(128),
        "x.xx.0": 100 * np.eye(128),
    }
    bases = Bases("x", False, [group], facts.frame, moments, lambda _: form)
    stored = bases.plain(0)
    adds = stored["x.basis.0"].astype(np.float64) * stored["x.scale.0"]
    noise = np.square(adds).sum(axis=1)  # of white noise in the components
    assert noise[:62].min() > 10 * noise[62:64].max()
