"""The attention kernel against softmax attention in float64, and against ggml's kernel."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantize.native import register_types
from tests.native.attention_job import Attention, library, pack

TYPES = {"f32": 0, "f16": 1, "bf16": 30, "q8_0": 8, "q5_1": 7, "q5_0": 6, "q4_1": 3, "q4_0": 2, "iq4_nl": 20}
BLOCKS_64 = {"q2_0": 42, "nvfp4": 40, "mxfp4": 39, "tq4_64": 36, "tq3_64": 37, "tq2_64": 38}
BLOCKS_128 = {"tq4": 31, "tq3": 32, "tq2": 33, "q1_0": 41}
ALL = TYPES | BLOCKS_64 | BLOCKS_128

ISAS = ("portable", "neon", "avx2", "avx512")


@pytest.fixture(autouse=True, scope="module")
def _types() -> None:
    assert register_types().ok


@pytest.fixture(params=("avx512", "avx2", "portable"))
def isa(request: pytest.FixtureRequest) -> Any:
    """Every instruction set of this machine in turn."""
    lib = library()
    before = lib.st_isa_active()
    wanted = ISAS.index(request.param)
    if lib.st_isa_use(wanted) != wanted:
        lib.st_isa_use(before)
        pytest.skip(f"this machine has no {request.param}")
    yield request.param
    lib.st_isa_use(before)


def types_for(head_dim: int) -> list[str]:
    """Cache types whose blocks divide a head."""
    return [
        *TYPES,
        *(BLOCKS_64 if head_dim % 64 == 0 else ()),
        *(BLOCKS_128 if head_dim % 128 == 0 else ()),
    ]


def causal(n_stream: int, n_tokens: int, n_cells: int, window: int = 0) -> NDArray[np.float16]:
    """The mask of the last ``n_tokens`` of ``n_cells``, each seeing at most ``window`` back (0: all)."""
    age = (n_cells - n_tokens + np.arange(n_tokens))[:, None] - np.arange(n_cells)[None, :]
    seen = (age >= 0) & ((age < window) if window else True)
    return np.broadcast_to(np.where(seen, 0.0, -np.inf), (n_stream, n_tokens, n_cells)).astype(np.float16)


@dataclass(frozen=True)
class Case:
    """A small description of one attention, from which the arrays follow."""

    head_dim: int
    type_k: str
    type_v: str
    n_head_kv: int
    group: int
    """Query heads per KV head."""
    n_stream: int
    n_tokens: int
    older: int
    """Cells before the first of the tokens."""
    mask: str
    window: int
    spread: float
    """Of the logarithms of the sizes of the rows."""
    sharpness: float
    softcap: float
    sinks: bool
    seed: int

    def attention(self) -> Attention:
        rng = np.random.default_rng(self.seed)
        n_head, n_cells = self.n_head_kv * self.group, self.older + self.n_tokens
        shape = (self.n_stream, n_cells, self.n_head_kv, self.head_dim)

        def rows(name: str) -> NDArray[np.uint8]:
            size = np.exp(self.spread * rng.standard_normal((*shape[:3], 1)))
            return pack((rng.standard_normal(shape) * size).astype(np.float32), ALL[name])

        q = self.sharpness * rng.standard_normal((self.n_stream, self.n_tokens, n_head, self.head_dim))
        return Attention(
            q.astype(np.float32),
            rows(self.type_k),
            rows(self.type_v),
            ALL[self.type_k],
            ALL[self.type_v],
            self.seen_by(rng, n_cells),
            self.head_dim**-0.5,
            self.softcap,
            rng.standard_normal(n_head).astype(np.float32) if self.sinks else None,
        )

    def seen_by(self, rng: np.random.Generator, n_cells: int) -> NDArray[np.float16] | None:
        shape = (self.n_stream, self.n_tokens, n_cells)
        if self.mask == "none":
            return None
        if self.mask == "random":  # some tokens see nothing at all
            hidden = rng.random(shape) < rng.choice((0.01, 0.5, 0.99))
            hidden[:, rng.integers(self.n_tokens)] = True
            return np.where(hidden, -np.inf, 0.0).astype(np.float16)
        if self.mask == "bias":
            return rng.standard_normal(shape).astype(np.float16) + causal(*shape)
        if self.mask == "sequences":  # two in one cache, by turns
            token, cell = np.arange(self.n_tokens) % 2, np.arange(n_cells) % 2
            other = np.where(token[:, None] == cell[None, :], 0.0, -np.inf).astype(np.float16)
            return causal(*shape) + other
        return causal(*shape, self.window if self.mask == "window" else 0)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Shapes, types, masks and sizes of values as they can occur, and some that hardly do."""
    head_dim = draw(st.sampled_from((64, 128, 256, 96, 32)))
    names = st.sampled_from(types_for(head_dim))
    return Case(
        head_dim,
        draw(names),
        draw(names),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 8)),
        draw(st.sampled_from((1, 1, 1, 2))),
        draw(st.sampled_from((1, 2, 7, 17, 70))),
        draw(st.sampled_from((0, 1, 5, 63, 64, 65, 200, 300))),
        draw(st.sampled_from(("none", "causal", "window", "random", "bias", "sequences"))),
        draw(st.integers(1, 80)),
        draw(st.sampled_from((0.0, 0.25, 0.5))),
        draw(st.sampled_from((0.3, 1.0, 4.0))),
        draw(st.sampled_from((0.0, 0.0, 30.0))),
        draw(st.booleans()),
        draw(st.integers(0, 2**32 - 1)),
    )


def error(got: NDArray[Any], want: NDArray[np.float64]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean((got - want) ** 2)))


@pytest.mark.parametrize("threads", (1, 3))
@settings(max_examples=100, deadline=None)
@given(cases())
def test_error_is_at_most_that_of_a_stock_f16_cache(threads: int, case: Case) -> None:
    """With the same values an f16 cache and ggml's kernel are no closer to the truth."""
    a = case.attention()
    want = a.reference()
    own = a.own(threads)
    assert np.isfinite(own).all()
    floor = 1e-6 * (1.0 + float(np.abs(want).max()))  # of f32 itself
    assert error(own, want) <= max(error(a.as_f16().stock(), want), floor)


PLAIN = Case(128, "q8_0", "q8_0", 2, 2, 1, 5, 150, "causal", 0, 0.5, 1.0, 0.0, False, 7)


@settings(max_examples=50, deadline=None)
@given(st.floats(1.0, 2.5), st.sampled_from(("q8_0", "q4_0", "tq3", "q5_1")), st.integers(0, 1000))
def test_rows_of_very_different_sizes(spread: float, name: str, seed: int) -> None:
    """Weights of 16 bits: off by no more than 2^-15 of the largest contribution per cell of a tile."""
    a = replace(PLAIN, type_v=name, spread=spread, seed=seed, mask="none").attention()
    largest = np.abs(a.values).max()
    assert np.abs(a.own() - a.reference()).max() <= 64 * 2.0**-15 * largest


@pytest.mark.parametrize("name", ALL)
def test_every_type_in_every_instruction_set(isa: str, name: str) -> None:
    """As K, as V and as both, with heads of 128 and 64."""
    for head_dim in (64, 128):
        if name not in types_for(head_dim):
            continue
        for k, v in ((name, name), (name, "f16"), ("q8_0", name)):
            for n_tokens in (1, 30):
                case = replace(PLAIN, head_dim=head_dim, type_k=k, type_v=v, n_tokens=n_tokens, group=3)
                a = case.attention()
                want = a.reference()
                limit = max(error(a.as_f16().stock(), want), 1e-6 * (1.0 + float(np.abs(want).max())))
                assert error(a.own(), want) <= limit, (head_dim, k, v, n_tokens)


@pytest.mark.parametrize("group", (1, 2, 5, 7, 8, 11, 12, 13, 40, 128))
@pytest.mark.parametrize("n_tokens", (1, 3, 9))
def test_any_number_of_rows(isa: str, group: int, n_tokens: int) -> None:
    """Query rows are multiplied in groups of several sizes: none is left out or done twice."""
    a = replace(PLAIN, group=group, n_tokens=n_tokens, n_head_kv=1, older=70).attention()
    want = a.reference()
    assert error(a.own(), want) < 1e-3 * float(np.abs(want).max())


@pytest.mark.parametrize("n_head_kv", (1, 2, 7, 8, 9, 12, 16, 17))
@pytest.mark.parametrize(("name", "n_tokens"), (("f16", 1), ("q8_0", 1), ("tq3", 3)))
def test_any_number_of_kv_heads(n_head_kv: int, name: str, n_tokens: int) -> None:
    """With few query rows an item takes several of them, with threads that are short of work fewer."""
    case = replace(PLAIN, n_head_kv=n_head_kv, type_k=name, type_v=name, n_tokens=n_tokens, older=700)
    a = case.attention()
    want = a.reference()
    for threads in (1, 2, 5):
        assert error(a.own(threads), want) < 1e-3 * float(np.abs(want).max())


@pytest.mark.parametrize("n_cells", (1, 2, 63, 64, 65, 127, 128, 129, 640))
def test_any_number_of_cells(isa: str, n_cells: int) -> None:
    """Also fewer than a tile, and one more than a whole one."""
    a = replace(PLAIN, n_tokens=1, older=n_cells - 1).attention()
    want = a.reference()
    assert error(a.own(), want) < 1e-3 * float(np.abs(want).max())


def test_one_cell_is_its_value(isa: str) -> None:
    """The softmax of one score is 1, whatever the score: the weight is then exact."""
    for name in ("q8_0", "q4_0", "tq3", "f16"):
        a = replace(PLAIN, type_v=name, n_tokens=1, older=0).attention()
        np.testing.assert_allclose(a.own()[0, 0, 0], a.values[0, 0, 0], rtol=1e-6)


def test_a_token_that_sees_nothing_gets_zero(isa: str) -> None:
    """As ggml's kernel gives it; also where it shares a tile with tokens that see something."""
    a = replace(PLAIN, n_tokens=4).attention()
    assert a.mask is not None
    a.mask[0, 2] = -np.inf
    own, stock = a.own(), a.stock()
    assert not own[0, 2].any() and not stock[0, 2].any()
    assert own[0, 1].any() and own[0, 3].any()
    a.mask[:] = -np.inf
    assert not a.own().any()


@pytest.mark.parametrize("name", ("q8_0", "q4_1", "tq2", "f16"))
def test_cells_that_nobody_sees_may_hold_anything(isa: str, name: str) -> None:
    """Rows of an unused cell can be leftovers that are not even numbers."""
    a = replace(PLAIN, type_k=name, type_v=name).attention()
    assert a.mask is not None
    a.mask[:, :, 20:90] = -np.inf
    before = a.own()
    a.k[:, 20:90] = 0xFF
    a.v[:, 20:90] = 0xFF
    np.testing.assert_array_equal(a.own(), before)


def test_threads_share_the_work_without_changing_it() -> None:
    """Whole items are computed alike whoever takes them."""
    a = replace(PLAIN, n_tokens=200, n_head_kv=3, older=100).attention()
    want = a.own(2)
    for _ in range(5):
        np.testing.assert_array_equal(a.own(2), want)


@pytest.mark.parametrize(
    ("changed", "why"),
    (
        ({"dk": 72}, "head size"),
        ({"dv": 1024}, "head size"),
        ({"type_k": 0}, "unknown row type"),
        ({"n_head": 3}, "shape"),
        ({"n_cells": 0}, "shape"),
    ),
)
def test_what_it_cannot_do_it_refuses(changed: dict[str, int], why: str) -> None:
    """The stock kernel then computes it."""
    job = PLAIN.attention().job()
    for name, value in changed.items():
        setattr(job, name, value)
    assert library().st_attn_refuses(ctypes.byref(job)).decode() == why
