"""Rotary positions: taken out, they leave what ggml turned, whatever kind of RoPE it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantize.rope
from quantize.geometry import LayerHeads
from quantize.native import status
from quantize.rope import NO_ROPE, UNKNOWN_ROPE, Rope, unlike_one_base
from quantize.rope_parameters import IMROPE, MROPE, NEOX, NORM, RopeParameters
from tests.quantize.ggml_rope import ggml_rope

Floats = np.ndarray[Any, np.dtype[np.float32]]

LLAMA3 = (1.0,) * 15 + tuple(np.linspace(1.3, 7.5, 7).tolist()) + (8.0,) * 10
KINDS = {
    "norm": RopeParameters(n_dims=64),
    "neox": RopeParameters(n_dims=64, mode=NEOX, freq_base=1e6),
    "llama 3": RopeParameters(n_dims=64, freq_base=5e5, factors=LLAMA3),
    "linear": RopeParameters(n_dims=64, mode=NEOX, freq_scale=1 / 8),
    "yarn": RopeParameters(
        n_dims=64, mode=NEOX, freq_base=1e6, freq_scale=0.25, ext_factor=1.0, n_ctx_orig=32768
    ),
    "half of yarn": RopeParameters(
        n_dims=64, freq_scale=1 / 40, ext_factor=0.5, attn_factor=1.3, n_ctx_orig=4096
    ),
    "partial": RopeParameters(n_dims=32, mode=NEOX),
    "partial, neighbours": RopeParameters(n_dims=16),
    "behind": RopeParameters(n_dims=24, offset=40, mode=NEOX),
    "behind, neighbours": RopeParameters(n_dims=24, offset=40, attn_factor=0.7),
    "proportional": RopeParameters(n_dims=64, mode=NEOX, factors=(1.0,) * 8 + (1e30,) * 24),
    "m-rope": RopeParameters(n_dims=64, mode=MROPE, sections=(8, 12, 12, 0)),
    "m-rope of four": RopeParameters(n_dims=64, mode=MROPE, sections=(8, 8, 8, 8)),
    "m-rope, fewer sections than pairs": RopeParameters(n_dims=64, mode=MROPE, sections=(4, 3, 3, 1)),
    "interleaved m-rope": RopeParameters(n_dims=64, mode=IMROPE, sections=(12, 10, 10, 0), freq_base=5e6),
}

parameters = st.builds(
    RopeParameters,
    n_dims=st.sampled_from((2, 16, 64)),
    mode=st.sampled_from((NORM, NEOX)),
    n_ctx_orig=st.sampled_from((2048, 32768)),
    freq_base=st.sampled_from((1e4, 1e6)),
    freq_scale=st.sampled_from((1.0, 0.25)),
    ext_factor=st.sampled_from((0.0, 1.0)),
    attn_factor=st.sampled_from((1.0, 1.2)),
)
ropes = st.builds(RopeParameters.rope, parameters)
heads = st.builds(LayerHeads, st.sampled_from((64, 80, 128)), st.just(64), st.sampled_from((1, 2, 8)))


def rows(n: int, shape: LayerHeads, seed: int) -> tuple[Floats, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, shape.n_embd_k)).astype(np.float32)
    return x, rng.integers(0, 1 << 12, n).astype(np.int32)


def assert_undoes(kind: RopeParameters, shape: LayerHeads, n: int, seed: int) -> None:
    """Both ways of taking the positions out leave what ggml was given, and putting them in makes what it
    made. Its angles are float32: at position 4,096 they are right to about .0005."""
    x, at = rows(n, shape, seed)
    turned = ggml_rope(x.reshape(n, shape.n_head_kv, shape.head_dim_k), at, kind)
    rope = kind.rope()
    back = np.ascontiguousarray(turned.reshape(n, -1)).copy()
    rope.turn(back, at, shape, back=True)
    np.testing.assert_allclose(back, x, atol=5e-3)
    by_head = rope.without_positions(turned.swapaxes(0, 1), at).swapaxes(0, 1).reshape(n, -1)
    np.testing.assert_allclose(by_head, x, atol=5e-3)
    rope.turn(x, at, shape, back=False)
    np.testing.assert_allclose(x, turned.reshape(n, -1), atol=5e-3)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_rope_is_undone(name: str) -> None:
    assert_undoes(KINDS[name], LayerHeads(64, 64, 3), 50, 1)
    assert KINDS[name].rope() != NO_ROPE


@given(kind=parameters, shape=heads, n=st.integers(1, 20), seed=st.integers(0, 99))
def test_whatever_the_numbers_are(kind: RopeParameters, shape: LayerHeads, n: int, seed: int) -> None:
    assert_undoes(kind, shape, n, seed)


def test_positions_of_long_texts() -> None:
    """The slow pairs are right at a million, where float32 no longer knows the fast ones."""
    kind = RopeParameters(n_dims=64, mode=NEOX, freq_base=1e6)
    x = np.ones((1, 1, 64), np.float32)
    at = np.array([1_000_003], np.int32)
    back = kind.rope().without_positions(ggml_rope(x, at, kind), at)[0, 0]
    slow = np.asarray(kind.rope().theta) * 1e6 < 1e3
    np.testing.assert_allclose(back[:32][slow], 1, atol=2e-3)


@pytest.mark.parametrize("halves", [False, True])
def test_products_depend_on_the_distance_alone(halves: bool) -> None:
    """That is what RoPE is for; and turning back gives what was there."""
    rope = RopeParameters(n_dims=32, mode=NEOX if halves else NORM).rope()
    x = np.random.default_rng(0).normal(size=(1, 6, 64)).astype(np.float32)
    at = np.arange(6, dtype=np.int32) * 7
    angles = rope.angles(at)
    turned = rope.turned(x, np.cos(angles), np.sin(angles))
    assert not np.allclose(turned, x)
    np.testing.assert_allclose(rope.without_positions(turned, at), x, atol=1e-5)
    same = np.repeat(x[:, :1], 6, axis=1)
    turned = rope.turned(same, np.cos(angles), np.sin(angles))[0]
    products = turned @ turned.T
    np.testing.assert_allclose(np.diag(products, 1), products[0, 1], rtol=1e-4)


@given(rope=ropes, shape=heads, n=st.integers(0, 40), seed=st.integers(0, 99))
def test_rows_turn_as_heads_do_and_come_back(rope: Rope, shape: LayerHeads, n: int, seed: int) -> None:
    x, at = rows(n, shape, seed)
    there = x.copy()
    rope.turn(there, at, shape, back=False)
    by_head = there.reshape(n, shape.n_head_kv, shape.head_dim_k).swapaxes(0, 1)
    plain = x.reshape(n, shape.n_head_kv, shape.head_dim_k).swapaxes(0, 1)
    np.testing.assert_allclose(rope.without_positions(by_head, at), plain, atol=1e-5)
    rope.turn(there, at, shape, back=True)
    np.testing.assert_allclose(there, x, atol=1e-5)


@pytest.mark.skipif(not status().ok, reason="there is no native library")
@given(rope=ropes, shape=heads, n=st.integers(1, 40), seed=st.integers(0, 99), back=st.booleans())
def test_numpy_and_the_native_library_agree_bit_for_bit(
    rope: Rope, shape: LayerHeads, n: int, seed: int, back: bool
) -> None:
    a, at = rows(n, shape, seed)
    b = a.copy()
    rope.turn(a, at, shape, back=back)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize.rope, "_native", lambda: None)
        rope.turn(b, at, shape, back=back)
    assert (a.view(np.int32) == b.view(np.int32)).all()


@pytest.mark.parametrize("rope", [NO_ROPE, UNKNOWN_ROPE])
def test_without_rotary_positions_nothing_turns(rope: Rope) -> None:
    shape = LayerHeads(64, 64, 2)
    x, at = rows(5, shape, 0)
    there = x.copy()
    rope.turn(there, at, shape, back=False)
    assert (there == x).all()
    assert rope.without_positions(x, at) is x
    assert not rope.used


def test_only_what_one_base_does_not_say_has_a_mark() -> None:
    """Files that were parked when one base was all that was known carry none."""
    alike = [KINDS[name].rope() for name in ("norm", "neox", "partial")]
    for rope in (*alike, NO_ROPE):
        assert unlike_one_base(((rope, rope),)) == ""
    assert unlike_one_base(()) == ""
    others = [KINDS[name].rope() for name in ("llama 3", "linear", "yarn", "half of yarn", "behind")]
    marks = {unlike_one_base(((rope,),)) for rope in (*others, UNKNOWN_ROPE)}
    marks |= {unlike_one_base(parts) for parts in ((tuple(alike[:2]),), ((alike[0],), (alike[1],)))}
    assert "" not in marks and len(marks) == 8
