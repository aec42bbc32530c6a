"""Finding the constant of K of a model: from its weights at once, from a short text better.

The bias of K in the weights (``attn_k.bias``, Qwen2) is most of the constant. Reading a text of a few hundred
tokens tells the rest: the mean of K without its positions, and how far its channels spread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.centring import Centring, Floats, LayerCentring, pairs, rounded
from quantize.errors import EngineError, StateError
from quantize.geometry import Geometry
from quantize.llama import Context, Model, StopFlag
from quantize.model_ropes import ropes_of
from quantize.rope import Rope, Ropes
from quantize.state import SavedState, read_state
from quantize.tensor_file import read_floats

FIRST = 4
"""Tokens at the beginning that are unlike the others: they are no part of the mean."""
TEXT_TOKENS = 512
"""Of the text that is read."""
FAST = 2 / 63
"""Radians per position above which a pair costs the attention kernel more (native/centring.h)."""
WORTH = 0.02
"""A fast pair is centred where its constant is this part of all that the head spreads."""
POWER = 0.5
"""Of the spread that is divided out. With 1 the noise of a narrow channel would be as small as it is, though
the queries do not look at it more than at others; docs/turboquant.md has the figures."""
_F16 = 1


def _possible(geometry: Geometry, ropes: Ropes) -> Iterator[tuple[int, int]]:
    """Layers that can be centred, by part and index in it.

    How K turns has to be known, and where each row stands. The ROPE node of a cache's first layer tells that
    for all layers after it, whether they turn or not; layers in front of it stay as they are.
    """
    for part, of_part in enumerate(geometry.parts):
        told = False
        for index, heads in enumerate(of_part):
            rope = ropes[part][index]
            told = told or (rope.known and rope.used)
            if told and rope.known and heads.n_head_kv:
                yield part, index


def from_bias(model: Model, geometry: Geometry) -> Centring | None:
    """What the weights tell at once; None if K has no bias."""
    ropes = ropes_of(model, geometry)
    layers: dict[tuple[int, int], LayerCentring] = {}
    for part, index in _possible(geometry, ropes):
        heads, rope = geometry.parts[part][index], ropes[part][index]
        bias = read_floats(model.path, f"blk.{geometry.number(part, index)}.attn_k.bias")
        if not bias or len(bias) != heads.n_embd_k:
            continue
        centre = np.asarray(bias, np.float32).reshape(heads.n_head_kv, heads.head_dim_k).copy()
        o, n = rope.offset, 2 * len(rope.theta)
        centre[:, o : o + n] *= rope.magnitude
        flat = np.ones_like(centre)
        layers[part, index] = rounded(centre, flat, np.zeros(heads.n_head_kv, np.int32))
    return Centring(geometry, ropes, layers, "bias") if layers else None


def from_text(
    model: Model,
    geometry: Geometry,
    tokens: Sequence[int],
    n_threads: int = 2,
    stop: StopFlag | None = None,
) -> Centring:
    """Read a text and see.

    Args:
        tokens: of the text; ``TEXT_TOKENS`` of it are enough.
        stop: ends it early.

    Raises:
        EngineError: if llama.cpp cannot read it, or was stopped.
        StateError: if this model's state cannot be read.
    """
    n_batch = 64  # so that it stops soon
    with Context(
        model, n_ctx=len(tokens) + 1, n_threads=n_threads, n_batch=n_batch, n_ubatch=n_batch
    ) as context:
        if stop is not None:
            context.stop_with(stop)
        for at in range(0, len(tokens), context.n_batch):
            if context.decode(tokens[at : at + context.n_batch], at, logits="none"):
                raise EngineError("llama.cpp could not read the text that K's constant is found with.")
        data = np.zeros(context.state_size(), np.uint8)
        state = read_state(data[: context.save_state(data)])
    if state.obstacle or len(state.parts) != len(geometry.parts):
        raise StateError(state.obstacle or "The state has another number of caches than the model.")
    return from_state(state, model, geometry)


def from_state(state: SavedState, model: Model, geometry: Geometry) -> Centring:
    """From the f16 cache of a text."""
    ropes = ropes_of(model, geometry)
    layers: dict[tuple[int, int], LayerCentring] = {}
    for part, index in _possible(geometry, ropes):
        positions = state.positions(part).astype(np.int32)
        heads, rope = geometry.parts[part][index], ropes[part][index]
        if len(positions) < 64:
            continue
        rows = state.rows(state.parts[part].k[index])
        k = np.empty((len(rows), heads.n_embd_k), np.float32)
        ggml.dequantize(ggml.row_format(_F16), np.ascontiguousarray(rows), k)
        by_head = np.ascontiguousarray(k.reshape(len(k), heads.n_head_kv, -1).swapaxes(0, 1))
        layers[part, index] = layer_of(by_head, positions, rope)
    return Centring(geometry, ropes, layers, "text")


def layer_of(k: Floats, positions: NDArray[np.int32], rope: Rope, *, power: float = POWER) -> LayerCentring:
    """The centring of one layer.

    Args:
        k: with positions in it, shape (n_head_kv, tokens, head_dim).
        positions: of the tokens.
        power: of the spread that is divided out, 0 for none.
    """
    first, second, theta = pairs(rope, k.shape[2])
    turned = without_angles(k, positions, first, second, theta)
    usual = turned[:, positions >= FIRST]
    centre, variance = usual.mean(axis=1), usual.var(axis=1)
    spread = variance[:, first] + variance[:, second]  # of pairs
    energy = centre[:, first] ** 2 + centre[:, second] ** 2
    keep = (theta <= FAST) | (energy > WORTH * spread.sum(axis=1, keepdims=True))
    for values in (first, second):
        centre[:, values] *= keep
    scale = np.ones_like(centre)
    if power > 0:
        deviation = np.sqrt(spread / 2)
        least = 1e-3 * deviation.max(axis=1, keepdims=True) + 1e-12
        factor = np.maximum(deviation, least) ** power
        factor /= np.exp(np.log(factor).mean(axis=1, keepdims=True))
        for values in (first, second):
            scale[:, values] = factor
    layer = rounded(centre, scale, np.zeros(len(k), np.int32))
    return LayerCentring(layer.centre, layer.scale, _whole(turned, positions, layer))


def _whole(turned: Floats, positions: NDArray[np.int32], layer: LayerCentring) -> NDArray[np.int32]:
    """Per head how many of the first tokens are smaller with the constant than without it."""
    early = np.flatnonzero(positions < FIRST)
    early = early[np.argsort(positions[early])]
    k = turned[:, early] / layer.scale[:, None]
    without = (turned[:, early] - layer.centre[:, None]) / layer.scale[:, None]
    better = (k * k).sum(axis=2) < (without * without).sum(axis=2)  # (heads, tokens)
    unbroken = np.logical_and.accumulate(better, axis=1)
    counts: NDArray[np.int32] = unbroken.sum(axis=1).astype(np.int32)
    return counts


def without_angles(
    k: Floats,
    positions: NDArray[np.int32],
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    theta: NDArray[np.float64],
) -> Floats:
    """``k`` (heads, tokens, head_dim) with its pairs turned back; a magnitude of the RoPE stays in it."""
    angles = positions[:, None].astype(np.float64) * theta
    cosine, sine = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    out = np.empty_like(k)
    a, b = k[:, :, first], k[:, :, second]
    out[:, :, first] = a * cosine + b * sine
    out[:, :, second] = b * cosine - a * sine
    return out
