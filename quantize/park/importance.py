"""How much it matters what each token's K and V are: what questions will ask of a cache.

A few attentions look at the tokens of a cache, and at most tokens hardly any. The calibration keeps queries
that the model made of other texts. A cache that is parked is asked by them, as if they stood in the text
that will follow it: query q gives token t the probability

    a_qt = softmax_t(<q, k_t>),    and its output is    o_q = sum_t a_qt v_t

An error dv of V_t changes o_q by a_qt dv, one dk of K_t by a_qt <q, dk> (v_t - o_q) to first order. So the
square error of V_t weighs sum_q a_qt^2 and that of K_t sum_q a_qt^2 |v_t - o_q|^2. (Expected Attention,
arXiv:2510.00636, asks a cache by the mean and the covariance of queries to the same end.)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.geometry import LayerHeads
from quantize.park.classes import nearest
from quantize.park.codec import LONGEST, exact_cells
from quantize.park.plain import Floats, Source

AHEAD = 256
"""Queries are asked from so many tokens after the end of the cache."""
POWER = 0.375
"""The step is the importance to the power of minus this. One half would be right if the importance were
known; text that follows asks for something else, too."""
LEAST = 1e-3
"""Of the mean importance: nothing matters less, since nobody knows what will be asked."""
AGES = ((24, 0.25), (64, 0.4), (256, 0.6), (1024, 0.8))
"""The step of the quantizer by age: up to so many tokens from the end, times so much."""


def ages(n: int) -> NDArray[np.float64]:
    """What the step of each of ``n`` tokens is multiplied by because of its age, shape (n,)."""
    found = np.ones(n)
    for age, fineness in reversed(AGES):
        found[max(n - age, 0) :] = fineness
    return found


def queries_name(part: int, layer: int) -> str:
    """The array of a profile with the queries of a layer: shape (KV heads, queries, head size), without their
    positions, multiplied by what the attention multiplies <q, k> by."""
    return f"queries.{part}.{layer}"


class Importance:
    """Of the tokens of one cache."""

    def __init__(self, source: Source, arrays: Mapping[str, NDArray[Any]]) -> None:
        """``arrays``: of the profile. Without queries in it the age of a token decides alone."""
        self._source = source
        self._arrays = arrays
        self._layer = lru_cache(maxsize=1)(self._of_layer)

    def classes(self, part: int, layers: tuple[int, ...]) -> NDArray[np.int32]:
        """The class of each token of a part in the vectors of some layers, shape (tokens,)."""
        n = self._source.n_cells(part)
        fineness = ages(n)
        found = [x for layer in layers if (x := self._layer(part, layer)) is not None]
        if not found:
            return nearest(fineness)
        steps = np.maximum(np.mean(found, axis=0), LEAST) ** -POWER
        return nearest(steps * np.sqrt(fineness))

    def _of_layer(self, part: int, layer: int) -> NDArray[np.float64] | None:
        """In units of the mean of the tokens that are quantized."""
        queries = self._arrays.get(queries_name(part, layer))
        heads = self._source.frame.heads(part, layer)
        n = self._source.n_cells(part)
        first, last = exact_cells(n)
        if queries is None or n == first + last or queries.shape[::2] != (heads.n_head_kv, heads.head_dim_k):
            return None
        asked = self._asked(part, layer, queries)
        total = np.zeros(n)
        for head in range(heads.n_head_kv):
            for weight in _weights(self._source, part, layer, head, asked[head]):
                total += weight / max(float(weight[first : n - last].mean()), 1e-30)
        return total / (2 * heads.n_head_kv)

    def _asked(self, part: int, layer: int, queries: NDArray[Any]) -> Floats:
        """The queries where they are asked, shape (KV heads, queries, head size)."""
        n_kv, n, size = queries.shape
        after = int(self._source.positions(part).max()) + 1
        at = (after + np.linspace(0, AHEAD - 1, n)).astype(np.int32)
        rows = np.ascontiguousarray(queries.transpose(1, 0, 2), np.float32).reshape(n, n_kv * size)
        frame = self._source.frame
        frame.rope_of(part, layer).turn(rows, at, LayerHeads(size, size, n_kv), back=False)
        return np.ascontiguousarray(rows.reshape(n, n_kv, size).transpose(1, 0, 2))


def _weights(
    source: Source, part: int, layer: int, head: int, q: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the square error of K and V of each token weighs in one head, shapes (tokens,)."""
    n, heads = source.n_cells(part), source.frame.heads(part, layer)
    scores = np.empty((len(q), n), np.float32)
    values = np.empty((n, heads.head_dim_v), np.float32)
    for start in range(0, n, LONGEST):
        end = min(n, start + LONGEST)
        k, v = (source.turned(part, layer, side, start, end) for side in ("k", "v"))
        k = k.reshape(end - start, heads.n_head_kv, -1)[:, head]
        values[start:end] = v.reshape(end - start, heads.n_head_kv, -1)[:, head]
        scores[:, start:end] = q @ k.T
    k, v = attention_weights(scores, values)
    return k.sum(axis=0, dtype=np.float64), v.sum(axis=0, dtype=np.float64)


def attention_weights(scores: Floats, values: Floats) -> tuple[Floats, Floats]:
    """What square errors of K and V of each token weigh, for queries with these scores.

    Args:
        scores: <q, k_t>, shape (queries, tokens), minus infinity where a query does not look; overwritten.
        values: V, shape (tokens, head size).

    Returns:
        The weights of K (of <q, dk>) and of V, shapes (queries, tokens).
    """
    scores -= scores.max(axis=1, keepdims=True)
    a = np.exp(scores, out=scores)
    a /= a.sum(axis=1, keepdims=True)
    output = a @ values
    apart = np.einsum("td,td->t", values, values) - 2 * (output @ values.T)
    apart += np.einsum("qd,qd->q", output, output)[:, None]
    a *= a
    return a * np.maximum(apart, 0, out=apart), a
