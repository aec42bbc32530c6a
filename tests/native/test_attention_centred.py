"""Attention over rows that lack their constant: as over the whole rows, wherever cells stand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantize.centring import Centring
from quantize.geometry import Geometry
from quantize.native import attention, register_types
from quantize.rope import NO_ROPE
from tests.native.attention_job import Attention, pack
from tests.native.test_attention_math import ALL, causal, error, isa, types_for
from tests.quantize.centred import made_centring
from tests.quantize.test_rope import KINDS

__all__ = ["isa"]
ROPES = {name: kind.rope() for name, kind in KINDS.items()} | {"none": NO_ROPE}
PLACES = ("in order", "holes", "shuffled", "two sequences", "one hole", "broken")
STARTS = (0, 1, 3, 60, 5000, 99_000)


@pytest.fixture(autouse=True, scope="module")
def _on() -> None:
    assert register_types().ok
    assert attention.enable().ok


@dataclass(frozen=True)
class Centred:
    """One attention over rows that lack a constant."""

    rope: str = "neox"
    head_dim: int = 64
    type_k: str = "q8_0"
    n_head_kv: int = 2
    group: int = 2
    n_stream: int = 1
    n_tokens: int = 5
    older: int = 150
    places: str = "in order"
    start: int = 0
    mask: str = "causal"
    size: float = 3.0
    """Of the constant; what varies has 1."""
    scaled: bool = True
    softcap: float = 0.0
    sinks: bool = False
    seed: int = 7

    def where(self, rng: np.random.Generator) -> NDArray[np.int32]:
        """Positions of the cells of each stream."""
        n = self.older + self.n_tokens
        rows = []
        for _ in range(self.n_stream):
            p = np.arange(n) + self.start
            if self.places == "holes":
                p = np.sort(rng.choice(3 * n, n, replace=False)) + self.start
            elif self.places == "shuffled":
                p = rng.permutation(n) + self.start
            elif self.places == "two sequences":
                p = np.arange(n) // 2 + self.start
            elif self.places == "one hole":
                p[n // 2 :] += 11
            elif self.places == "broken":  # as a cache that wraps: the newest lie in front
                p = np.roll(p, int(rng.integers(n)))
            rows.append(p)
        return np.array(rows, np.int32)

    def attention(self) -> Attention:
        """The inputs."""
        rng = np.random.default_rng(self.seed)
        n_cells, n_head = self.older + self.n_tokens, self.n_head_kv * self.group
        heads = Geometry.uniform(1, self.head_dim, self.head_dim, self.n_head_kv)
        centring: Centring = made_centring(
            heads, ((ROPES[self.rope],),), self.seed, size=self.size, scaled=self.scaled
        )
        positions = self.where(rng)
        shape = (self.n_stream, n_cells, self.n_head_kv, self.head_dim)
        stored = rng.standard_normal(shape).astype(np.float32)
        values = rng.standard_normal(shape).astype(np.float32)
        q = rng.standard_normal((self.n_stream, self.n_tokens, n_head, self.head_dim)).astype(np.float32)
        mask: NDArray[np.float16] | None = causal(
            self.n_stream, self.n_tokens, n_cells, 40 if self.mask == "window" else 0
        )
        if self.mask == "none":
            mask = None
        elif self.mask == "random" and mask is not None:
            hidden = rng.random(mask.shape) < 0.5
            hidden[:, :, rng.random(n_cells) < 0.4] = True  # hidden from all
            mask = np.where(hidden, np.float16(-np.inf), mask).astype(np.float16)
            positions[:, (mask < 0).all((0, 1))] = -1  # so nobody knows where they stand
        return Attention(
            q,
            pack(stored, ALL[self.type_k]),
            pack(values, ALL["f16"]),
            ALL[self.type_k],
            ALL["f16"],
            mask,
            self.head_dim**-0.5,
            self.softcap,
            rng.standard_normal(n_head).astype(np.float32) if self.sinks else None,
            centring,
            positions,
        )


def whole(a: Attention) -> Attention:
    """The same with the constant in the rows, in f32."""
    return replace(a, k=pack(a.keys, 0), type_k=0, centring=None, positions=None)


def assert_as_over_whole_rows(a: Attention, threads: int = 2) -> None:
    """Nearer to the truth than a stock f16 cache of the same rows, and as near as f32 gets."""
    plain = whole(a)
    want = plain.reference()
    got = a.own(threads)
    assert not a.lost
    assert np.isfinite(got).all()
    floor = max(1e-5 * (1 + float(np.abs(want).max())), 4 * error(plain.own(), want))
    assert error(got, want) <= floor
    assert error(got, want) <= max(error(plain.as_f16().stock(), want), floor)


@st.composite
def cases(draw: st.DrawFn) -> Centred:
    """What can occur."""
    head_dim = draw(st.sampled_from((64, 128, 256)))
    return Centred(
        draw(st.sampled_from(sorted(ROPES))),
        head_dim,
        draw(st.sampled_from([t for t in types_for(head_dim) if t not in ("f32", "f16", "bf16")])),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 7)),
        draw(st.sampled_from((1, 1, 2))),
        draw(st.sampled_from((1, 2, 7, 70))),
        draw(st.sampled_from((0, 1, 63, 64, 200, 300))),
        draw(st.sampled_from(PLACES)),
        draw(st.sampled_from(STARTS)),
        draw(st.sampled_from(("causal", "none", "window", "random"))),
        draw(st.sampled_from((0.0, 1.0, 10.0))),
        draw(st.booleans()),
        draw(st.sampled_from((0.0, 0.0, 30.0))),
        draw(st.booleans()),
        draw(st.integers(0, 2**32 - 1)),
    )


@pytest.mark.parametrize("threads", (1, 3))
@settings(max_examples=60, deadline=None)
@given(cases())
def test_attention_is_that_over_whole_rows(threads: int, case: Centred) -> None:
    assert_as_over_whole_rows(case.attention(), threads)


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("n_tokens", (1, 40))
def test_every_kind_of_rope_in_every_instruction_set(isa: str, rope: str, n_tokens: int) -> None:
    for places in ("in order", "holes"):
        for start in (0, 99_000):
            case = Centred(rope, n_tokens=n_tokens, places=places, start=start)
            assert_as_over_whole_rows(case.attention())


@pytest.mark.parametrize("head_dim", (64, 128, 256))
@pytest.mark.parametrize("places", PLACES)
def test_every_order_of_cells_in_every_instruction_set(isa: str, head_dim: int, places: str) -> None:
    """Successive positions are interpolated, others taken one by one; few and many rows of queries."""
    for n_tokens, group in ((1, 1), (1, 7), (12, 4), (130, 1)):
        case = Centred("llama 3", head_dim, places=places, n_tokens=n_tokens, group=group, start=2)
        assert_as_over_whole_rows(case.attention())


def test_a_batch_of_512(isa: str) -> None:
    case = Centred("yarn", 64, n_tokens=512, older=100, n_head_kv=1, group=2, mask="random", softcap=30.0)
    assert_as_over_whole_rows(case.attention())


@pytest.mark.parametrize("places", ("in order", "holes", "broken"))
def test_a_seen_cell_that_stands_nowhere_is_an_error(isa: str, places: str) -> None:
    """A hidden one is not."""
    case = Centred(places=places, n_tokens=3, older=130)
    a = case.attention()
    assert a.mask is not None and a.positions is not None
    a.mask[:, :, 70] = -np.inf
    a.positions[:, 70] = -1
    a.own()
    assert not a.lost
    a.mask[:, 1, 70] = 0
    a.own()
    assert a.lost


def test_the_constant_is_missed_where_it_is_not_put_back() -> None:
    """What these tests would see: the same rows read as if they lacked nothing, or another constant."""
    a = Centred(size=10.0).attention()
    want = whole(a).reference()
    scale = float(np.sqrt(np.mean(want**2)))
    assert a.centring is not None
    for wrong in (None, made_centring(a.centring.geometry, a.centring.ropes, 99, size=10.0)):
        other: Any = replace(a, centring=wrong)
        assert error(other.own(), want) > 0.3 * scale
    assert a.positions is not None
    assert error(replace(a, positions=a.positions + 1).own(), want) > 0.01 * scale
