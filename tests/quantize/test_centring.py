"""K without its constant: rows, there and back, under every kind of RoPE; its bytes; its id."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantize import centring as module
from quantize.centring import Centring, DamagedError, Recentring, find_with, with_id
from quantize.errors import StateError
from quantize.geometry import Geometry, LayerHeads
from quantize.native import attention
from quantize.rope import NO_ROPE, Rope
from quantize.rope_parameters import MROPE, NEOX, RopeParameters
from quantize.rotation import hadamard
from tests.quantize.centred import made_centring
from tests.quantize.ggml_rope import ggml_rope
from tests.quantize.test_rope import KINDS

pytestmark = pytest.mark.skipif(not attention.enable().ok, reason="there is no native library")

Floats = NDArray[np.float32]


def geometry(head_dim: int = 64, n_head_kv: int = 2, n_layer: int = 1) -> Geometry:
    return Geometry.uniform(n_layer, head_dim, head_dim, n_head_kv)


def made(rope: Rope, head_dim: int = 64, n_head_kv: int = 2, seed: int = 0, size: float = 10.0) -> Centring:
    """One layer."""
    return made_centring(geometry(head_dim, n_head_kv), ((rope,),), seed, size=size)


@pytest.fixture(autouse=True)
def _no_finder() -> Iterator[None]:
    """Finders of other tests know nothing here."""
    before = list(module._finders)
    module._finders.clear()
    yield
    module._finders[:] = before


def constant(centring: Centring, rope: Rope, positions: NDArray[np.int32]) -> Floats:
    """``R_p c`` in float64, shape (rows, heads, head_dim); 0 where a row keeps it."""
    layer = centring.layers[0, 0]
    c = np.broadcast_to(layer.centre, (len(positions), *layer.centre.shape))
    angles = rope.angles(positions)[:, None]
    turned = rope.turned(c, np.cos(angles), np.sin(angles)) if rope.used else c.copy()
    turned[positions[:, None] < layer.whole] = 0
    return turned


# ---------------------------------------------------------------- rows


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from((64, 128, 256)),
    st.integers(1, 3),
    st.lists(st.integers(0, 100_000), min_size=1, max_size=20),
    st.booleans(),
    st.integers(0, 1000),
)
def test_stored_rows_come_back(
    name: str, head_dim: int, n_head_kv: int, at: list[int], rotated: bool, seed: int
) -> None:
    """Up to the rounding of f32, which the constant's size decides."""
    c = made(KINDS[name].rope(), head_dim, n_head_kv, seed)
    positions = np.array(at, np.int32)
    rows = np.random.default_rng(seed).standard_normal((len(at), n_head_kv * head_dim)).astype(np.float32)
    values = rows.copy()
    c.rows(0, 0, values, positions, rotated=rotated, back=False)
    c.rows(0, 0, values, positions, rotated=rotated, back=True)
    np.testing.assert_allclose(values, rows, atol=3e-5)


@pytest.mark.parametrize("name", [*KINDS, "none"])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_what_is_stored_is_what_the_formula_says(name: str, head_dim: int) -> None:
    """``H ((k - R_p c) / s)`` in numpy, at positions up to 100,000."""
    rope = KINDS[name].rope() if name in KINDS else NO_ROPE
    c = made(rope, head_dim, 3)
    at = np.array([0, 1, 2, 3, 4, 5, 63, 64, 65, 4095, 4096, 31_337, 99_999, 100_000], np.int32)
    k = np.random.default_rng(1).standard_normal((len(at), 3, head_dim)).astype(np.float32)
    want = ((k - constant(c, rope, at)) / c.layers[0, 0].scale).astype(np.float32)
    assert c.hadamard(0)
    hadamard(want.reshape(-1), c.hadamard(0))
    got = k.reshape(len(at), -1).copy()
    c.rows(0, 0, got, at, rotated=False, back=False)
    np.testing.assert_allclose(got.reshape(want.shape), want, atol=2e-4)


@pytest.mark.parametrize("name", KINDS)
def test_a_k_that_is_its_constant_is_stored_as_zeros(name: str) -> None:
    """The constant turns as ggml's own ROPE turns it, YaRN's magnitude included."""
    kind, rope = KINDS[name], KINDS[name].rope()
    c = made(rope, 64, 2)
    layer = c.layers[0, 0]
    o, n = rope.offset, 2 * len(rope.theta)
    before = layer.centre.copy()
    before[:, o : o + n] /= rope.magnitude
    at = np.array([4, 5, 17, 64, 200, 1000], np.int32)
    k = np.ascontiguousarray(ggml_rope(np.broadcast_to(before, (len(at), 2, 64)).copy(), at, kind))
    rows = k.reshape(len(at), -1)
    c.rows(0, 0, rows, at, rotated=False, back=False)
    assert np.abs(rows).max() < 1e-3 * float(np.abs(layer.centre / layer.scale).max())


def test_rows_that_do_not_fit_are_refused() -> None:
    c = made(KINDS["neox"].rope())
    with pytest.raises(ValueError, match="do not fit"):
        c.rows(0, 0, np.zeros((2, 128), np.float32), np.zeros(3, np.int32), rotated=False, back=False)
    with pytest.raises(ValueError, match="do not fit"):
        c.rows(0, 0, np.zeros((2, 128), np.float64), np.zeros(2, np.int32), rotated=False, back=False)  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(st.booleans(), st.booleans(), st.sampled_from(sorted(KINDS)), st.integers(0, 99))
def test_from_one_constant_to_another(source: bool, target: bool, name: str, seed: int) -> None:
    """By way of nothing but the plain rows: whole, A, B and back again."""
    rope = KINDS[name].rope()
    a, b = made(rope, seed=seed, size=3), made(rope, seed=seed + 1000, size=3)
    at = np.array([0, 1, 2, 3, 7, 900], np.int32)
    k = np.random.default_rng(seed).standard_normal((len(at), 128)).astype(np.float32)
    want = k.copy()
    if target:
        hadamard(want.reshape(-1), a.hadamard(0))
    rows = k.copy()
    if source:
        hadamard(rows.reshape(-1), a.hadamard(0))
    for before, after in ((None, a), (a, b), (b, None)):
        step = Recentring(0, 0, before, after)
        step.apply(rows, at, source_turned=source, target_turned=target)
    np.testing.assert_allclose(rows, want, atol=5e-5)


# ---------------------------------------------------------------- bytes


def many(n_layer: int = 3) -> Centring:
    """Of several layers."""
    g = geometry(n_layer=n_layer)
    return made_centring(g, ((KINDS["neox"].rope(),) * n_layer,), 3)


def test_bytes_there_and_back() -> None:
    c = many()
    again = Centring.from_bytes(c.to_bytes(), c.geometry, c.ropes)
    assert again == c and again.id == c.id and again.source == "made"
    for key, layer in c.layers.items():
        for name in ("centre", "scale", "whole"):
            assert np.array_equal(getattr(layer, name), getattr(again.layers[key], name))


def test_a_changed_byte_is_damage() -> None:
    """Each of them, header included."""
    c = many(1)
    data = c.to_bytes()
    for at in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= flip
            with pytest.raises(DamagedError):
                Centring.from_bytes(bytes(damaged), c.geometry, c.ropes)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 40))
def test_any_bytes_at_all_are_damage(data: bytes, keep: int) -> None:
    c = many(1)
    for candidate in (data, c.to_bytes()[:keep] + data):
        with pytest.raises(DamagedError):
            Centring.from_bytes(candidate, c.geometry, c.ropes)


def test_bytes_that_end_early_are_damage() -> None:
    data = many(1).to_bytes()
    c = many(1)
    for n in range(len(data)):
        with pytest.raises(DamagedError):
            Centring.from_bytes(data[:n], c.geometry, c.ropes)
    with pytest.raises(DamagedError):
        Centring.from_bytes(data + b"\0", c.geometry, c.ropes)


@pytest.mark.parametrize("other", [geometry(128), geometry(64, 3), geometry(64, 2, 2)])
def test_the_bytes_of_another_model_are_refused(other: Geometry) -> None:
    data = many(3).to_bytes()
    with pytest.raises(DamagedError):
        Centring.from_bytes(data, other, ((KINDS["neox"].rope(),) * len(other.parts[0]),))


# ---------------------------------------------------------------- ids


def test_the_id_tells_what_rows_depend_on() -> None:
    """Constants, factors, first rows, the turning: all that a row cannot be read without."""
    rope = KINDS["neox"].rope()
    c = made(rope)
    layer = c.layers[0, 0]
    ids = {c.id}
    for name in ("centre", "scale", "whole"):
        changed = getattr(layer, name).copy()
        changed.reshape(-1)[0] += 1
        ids.add(Centring(c.geometry, c.ropes, {(0, 0): replace(layer, **{name: changed})}, "made").id)
    for other in (
        replace(rope, theta=tuple(t * 1.001 for t in rope.theta)),
        replace(rope, halves=not rope.halves),
        Rope(rope.theta[:8], offset=3),
    ):
        ids.add(Centring(c.geometry, ((other,),), c.layers, "made").id)
    ids.add(Centring(c.geometry, c.ropes, {}, "made").id)
    assert len(ids) == 8
    assert Centring(c.geometry, c.ropes, c.layers, "made").id == c.id
    assert 0 not in ids


def test_found_by_its_id_as_long_as_one_lives() -> None:
    """Of equal ones the first may go or the second."""
    a = made(NO_ROPE, seed=11)
    number = a.id
    assert with_id(number) is a
    b = Centring.from_bytes(a.to_bytes(), a.geometry, a.ropes)
    del b
    gc.collect()
    assert with_id(number) is a
    b = Centring.from_bytes(a.to_bytes(), a.geometry, a.ropes)
    del a
    gc.collect()
    assert with_id(number) is b
    del b
    gc.collect()
    with pytest.raises(StateError, match="no longer there"):
        with_id(number)
    assert with_id(0) is None


def test_a_finder_is_believed_for_the_right_number_alone() -> None:
    """It may give the next best; rows of another constant are never read with that."""
    a, b = made(NO_ROPE, seed=21), made(NO_ROPE, seed=22)
    data, shape, number = b.to_bytes(), (b.geometry, b.ropes), b.id
    del b
    gc.collect()
    find_with(lambda _number: a)
    with pytest.raises(StateError, match="no longer there"):
        with_id(number)
    find_with(lambda _number: Centring.from_bytes(data, *shape))
    found = with_id(number)
    assert found is not None and found.id == number


def test_a_layer_that_cannot_be_is_refused() -> None:
    """Not taken for one without a constant."""
    g = Geometry(((LayerHeads(64, 64, 1),),), LayerHeads(64, 64, 1))
    c = made_centring(g, ((RopeParameters(n_dims=64, mode=NEOX).rope(),),))
    layer = c.layers[0, 0]
    for bad in (
        replace(layer, centre=np.full_like(layer.centre, np.nan)),
        replace(layer, scale=np.zeros_like(layer.scale)),
    ):
        broken = Centring(g, c.ropes, {(0, 0): bad})
        with pytest.raises(ValueError, match="cannot be centred"):
            broken.rows(0, 0, np.zeros((1, 64), np.float32), np.zeros(1, np.int32), rotated=True, back=False)


def test_text_positions_of_m_rope_turn_as_neox() -> None:
    """Their time, height and width are the same."""
    plain = made(RopeParameters(n_dims=64, mode=NEOX).rope(), seed=5)
    rows = np.random.default_rng(0).standard_normal((4, 128)).astype(np.float32)
    at = np.array([0, 9, 500, 70_000], np.int32)
    multi = made(RopeParameters(n_dims=64, mode=MROPE, sections=(8, 12, 12, 0)).rope(), seed=5)
    a, b = rows.copy(), rows.copy()
    plain.rows(0, 0, a, at, rotated=True, back=False)
    multi.rows(0, 0, b, at, rotated=True, back=False)
    assert np.array_equal(a, b)
