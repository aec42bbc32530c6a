"""The attention that cells get, against softmax in float64."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.errors import EngineError
from quantize.llama import Context, Model
from quantize.native import attention, register_types
from quantize.native.attention_mass import Watched
from tests.native.attention_job import F32, Attention, Memory, free, library, pack
from tests.native.test_attention_math import ISAS, causal
from tests.synthetic import SyntheticModels

TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}
NUMBER = 1 << 40
"""Of no context."""


@pytest.fixture(autouse=True, scope="module")
def _on() -> Iterator[None]:
    assert register_types().ok
    assert attention.enable().ok
    yield
    attention.use("own")


def probabilities(a: Attention) -> F32:
    """Shape (head, token, cell)."""
    group = a.q.shape[2] // a.k.shape[2]
    k = np.repeat(a.keys[0].astype(np.float64), group, axis=1)
    s = np.einsum("thd,nhd->htn", a.q[0].astype(np.float64), k) * a.scale
    if a.softcap:
        s = a.softcap * np.tanh(s / a.softcap)
    assert a.mask is not None
    s = s + a.mask[0].astype(np.float64)[None]
    sinks = np.full(len(s), -np.inf) if a.sinks is None else a.sinks.astype(np.float64)
    top = np.maximum(s.max(-1), sinks[:, None])[..., None]
    p = np.exp(s - top)
    return p / (p.sum(-1, keepdims=True) + np.exp(sinks[:, None, None] - top))


def example(
    seed: int, dim: int, n_kv: int, group: int, n_tokens: int, older: int, type_k: str, type_v: str = ""
) -> Attention:
    types = [TYPES[type_k], TYPES[type_v or type_k]]
    rng = np.random.default_rng(seed)
    n = n_tokens + older
    q = rng.normal(size=(1, n_tokens, n_kv * group, dim)).astype(np.float32)
    k, v = (rng.normal(size=(1, n, n_kv, dim)).astype(np.float32) for _ in range(2))
    packed = (pack(x, type_id) for x, type_id in zip((k, v), types, strict=True))
    return Attention(q, *packed, *types, causal(1, n_tokens, n), 3.0 / dim**0.5)


def run(a: Attention, layer: int, threads: int = 2) -> F32:
    lib, job, memory = library(), a.job(), Memory()
    lib.st_mass_run.restype = ctypes.c_bool
    assert lib.st_mass_run(ctypes.c_int64(NUMBER), layer, ctypes.byref(job), threads, ctypes.byref(memory))
    free(memory.base)
    out: F32 = job.arrays[-1]
    return out


def see(a: Attention, watched: Watched, layer: int = 3, threads: int = 2) -> None:
    run(a, layer, threads)
    watched.check()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    dim=st.sampled_from((64, 128, 256)),
    n_kv=st.sampled_from((1, 2, 3)),
    group=st.sampled_from((1, 2, 8)),
    n_tokens=st.integers(1, 70),
    older=st.integers(0, 150),
    type_k=st.sampled_from(sorted(TYPES)),
    type_v=st.sampled_from(sorted(TYPES)),
    threads=st.integers(1, 5),
    isa=st.integers(0, 3),
    softcap=st.sampled_from((0.0, 3.0)),
    sinks=st.booleans(),
    tracked=st.floats(0.01, 1.0),
)
def test_most_and_total_are_those_of_the_softmax(
    seed: int,
    dim: int,
    n_kv: int,
    group: int,
    n_tokens: int,
    older: int,
    type_k: str,
    type_v: str,
    threads: int,
    isa: int,
    softcap: float,
    sinks: bool,
    tracked: float,
) -> None:
    a = example(seed, dim, n_kv, group, n_tokens, older, type_k, type_v)
    a.softcap = softcap
    a.sinks = np.linspace(-1, 2, n_kv * group, dtype=np.float32) if sinks else None
    n_track = max(1, int(tracked * (n_tokens + older)))
    before = library().st_isa_active()
    library().st_isa_use(isa)
    watched = Watched(NUMBER)
    try:
        assert watched.start(n_track, n_queries=5)
        see(a, watched, threads=threads)
        see(a, watched, threads=threads)
        seen = watched.layer(3)
        queries = watched.queries(3)
    finally:
        library().st_isa_use(before)
        watched.stop()
    assert seen is not None and seen.n_tokens == 2 * n_tokens and seen.n_head == n_kv * group
    p = probabilities(a).reshape(n_kv, -1, n_tokens + older)[:, :, :n_track]
    rtol = 2e-4 if type_k == "f16" else 1e-3  # beside integers Q is rounded to 16 bits
    np.testing.assert_allclose(seen.most, p.max(1), rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(seen.total, 2 * p.sum(1), rtol=rtol, atol=1e-5)
    np.testing.assert_array_equal(queries[:n_tokens], a.q[0, :5])


def test_many_cells() -> None:
    """More probabilities than an item keeps at once."""
    a = example(2, 64, 1, 1, 96, 24_000, "f16")
    watched = Watched(NUMBER)
    try:
        assert watched.start(24_000)
        see(a, watched)
        seen = watched.layer(3)
    finally:
        watched.stop()
    assert seen is not None
    p = probabilities(a)[:, :, :24_000]
    np.testing.assert_allclose(seen.most, p.max(1), rtol=2e-4, atol=1e-9)
    np.testing.assert_allclose(seen.total, p.sum(1), rtol=2e-4, atol=1e-8)


@pytest.mark.parametrize("name", ("f16", "q4_0"))
def test_the_attention_is_the_same(name: str) -> None:
    a = example(3, 64, 2, 2, 70, 100, name)
    watched = Watched(NUMBER)
    try:
        assert watched.start(170)
        out = run(a, 3)
    finally:
        watched.stop()
    np.testing.assert_allclose(out, a.own(), atol=1e-5)


def test_what_is_not_watched_costs_and_keeps_nothing() -> None:
    a = example(1, 64, 1, 1, 4, 4, "f16")
    watched = Watched(NUMBER)
    run(a, 0)
    with pytest.raises(EngineError, match="not watched"):
        watched.check()
    assert watched.layer(0) is None
    assert ISAS


def test_a_context_is_watched(synthetic: SyntheticModels) -> None:
    """Every layer gives each query a whole attention, and a stopped one is forgotten."""
    attention.use("own")
    with Model(synthetic("llama")) as model, Context(model, n_ctx=256, type_k=8, type_v=8) as context:
        watched = Watched.newest()
        assert watched is not None and watched.start(256)
        assert context.decode(list(range(5, 45)), 0) == 0
        watched.check()
        seen = watched.layer(0)
        assert seen is not None and seen.n_tokens == 40
        np.testing.assert_allclose(seen.total.sum(), 40 * seen.n_head, rtol=1e-4)
        assert (seen.most[:, 40:] == 0).all() and (seen.most[:, 0] == pytest.approx(1.0))
        watched.stop()
        assert watched.layer(0) is None
