"""Rotary positions: what turning does, and that both ways of doing it agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantize.rope
from quantize.geometry import LayerHeads
from quantize.llama import Model
from quantize.native import status
from quantize.rope import NO_ROPE, Rope, rope_of

Floats = np.ndarray[Any, np.dtype[np.float32]]

ropes = st.builds(
    Rope,
    n_rot=st.sampled_from((0, 2, 32, 64)),
    base=st.sampled_from((1e4, 1e6)),
    factor=st.sampled_from((1.0, 4.0)),
    halves=st.booleans(),
)
heads = st.builds(LayerHeads, st.sampled_from((2, 64, 80, 128)), st.just(64), st.sampled_from((1, 2, 8)))


def rows(n: int, shape: LayerHeads, seed: int) -> tuple[Floats, Any]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, shape.n_embd_k)).astype(np.float32)
    return x, rng.integers(0, 1 << 21, n).astype(np.int32)


@pytest.mark.parametrize("halves", [False, True])
def test_products_depend_on_the_distance_alone(halves: bool) -> None:
    """That is what RoPE is for; and turning back gives what was there."""
    rope = Rope(n_rot=32, halves=halves)
    x = np.random.default_rng(0).normal(size=(1, 6, 64)).astype(np.float32)
    at = np.arange(6, dtype=np.int32) * 7
    angles = rope.angles(at, 64)
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


def test_without_rotary_positions_nothing_turns() -> None:
    shape = LayerHeads(64, 64, 2)
    x, at = rows(5, shape, 0)
    there = x.copy()
    NO_ROPE.turn(there, at, shape, back=False)
    assert (there == x).all()
    assert NO_ROPE.without_positions(x, at) is x


@pytest.mark.parametrize(("name", "halves"), [("llama", False), ("qwen3", True)])
def test_settings_come_from_the_model(synthetic: Any, name: str, halves: bool) -> None:
    path: Path = synthetic(name)
    with Model(path) as model:
        rope = rope_of(model)
        stated = model.metadata(f"{model.metadata('general.architecture')}.rope.freq_base")
    assert (rope.used, rope.halves, rope.factor) == (True, halves, 1.0)
    assert rope.base == float(stated or 10000)


def test_a_model_without_rope_has_none(synthetic: Any) -> None:
    with Model(synthetic("mamba")) as model:
        assert rope_of(model) == NO_ROPE
