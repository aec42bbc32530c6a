"""What an error of K and V costs, by its direction: measured on the model's own queries.

``importance.py`` says how a square error of V_t and K_t changes the output of an attention: by a_qt^2 |dv|^2
and a_qt^2 |v_t - o_q|^2 <q, dk>^2. Summed over queries and tokens of a text these are quadratic forms, for
each KV head one for K and one for V::

    M_K = sum_qt a_qt^2 |v_t - o_q|^2 p_qt p_qt'        M_V = sum_qt a_qt^2 times the unit matrix

where p_qt is the query as the K of token t sees it that has no position: turned back by the position of t.
Only a few directions of K matter to the queries. What is far from them is coded coarsely.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from quantize.geometry import LayerHeads
from quantize.park.codec import N_FIRST, N_LAST
from quantize.park.importance import attention_weights
from quantize.park.plain import Floats, Frame, Source
from quantize.park.profile import Group

Doubles = NDArray[np.float64]

ASKED = 24
"""Tokens of a stretch whose queries ask it."""
SAMPLES = 32
"""Tokens that are drawn for every query in the sum, by their weight."""
LEAST = 0.02
"""Of the mean over all directions of a head: nothing costs less. Other texts ask for other things."""

NOTHING = 1e-6
"""The same of the mean over K and V of a layer, for a head that no query asked."""


class Sensitivity:
    """Adds the quadratic forms of a model up, stretch by stretch."""

    def __init__(self, frame: Frame, add: Callable[[str, Doubles], None], seed: int = 0) -> None:
        """
        Args:
            add: adds an array to the one with this name.
            seed: of the choice of the queries.
        """
        self._frame = frame
        self._add = add
        self._rng = np.random.default_rng(seed)

    def take(self, source: Source, part: int, layer: int, rows: Floats, scale: float) -> Floats:
        """One layer of a stretch.

        Args:
            rows: Q of its newest tokens as the attention took them, shape (tokens, query heads, head size).
            scale: what the attention multiplies <q, k> by.

        Returns:
            Queries without their positions, multiplied by ``scale``, shape (KV heads, queries, head size).
        """
        heads = self._frame.heads(part, layer)
        n = source.n_cells(part)
        k = source.turned(part, layer, "k", 0, n).reshape(n, heads.n_head_kv, -1)
        v = source.turned(part, layer, "v", 0, n).reshape(n, heads.n_head_kv, -1)
        positions = source.positions(part)
        rows = rows[-n:]
        newest = np.sort(positions)[n - len(rows) :]  # a window's cells stand in any order
        at = np.sort(self._rng.choice(len(rows), min(ASKED, len(rows)), replace=False))
        group = rows.shape[1] // heads.n_head_kv
        size = heads.head_dim_k
        forms_k = np.zeros((heads.n_head_kv, size, size))
        forms_v = np.zeros(heads.n_head_kv)
        asked = np.empty((heads.n_head_kv, len(at) * group, size), np.float32)
        for head in range(heads.n_head_kv):
            mine = rows[at, head * group : (head + 1) * group].reshape(-1, size)
            q = (mine * scale).astype(np.float32)
            own = np.repeat(newest[at], group)
            scores = q @ k[:, head].T
            scores[positions[None] > own[:, None]] = -np.inf
            for_k, for_v = attention_weights(scores, np.ascontiguousarray(v[:, head]))
            for weights in (for_k, for_v):  # what is kept exactly costs nothing
                weights[:, :N_FIRST] = 0
                weights[positions[None] > own[:, None] - N_LAST] = 0
            forms_k[head] = self._form(q, for_k, positions, part, layer)
            forms_v[head] = for_v.sum(dtype=np.float64)
            asked[head] = self._without(q, own, part, layer)
        self._add(f"sensitivity.{part}.{layer}.k", forms_k)
        self._add(f"sensitivity.{part}.{layer}.v", forms_v)
        return asked

    def _form(
        self, q: Floats, weights: Floats, positions: NDArray[np.int32], part: int, layer: int
    ) -> Doubles:
        """The sum of ``weights[i, t] p_it p_it'``, from tokens that are drawn by their weight."""
        total = weights.sum(axis=1, dtype=np.float64)
        there = np.flatnonzero(total > 0)
        if not len(there):
            return np.zeros((q.shape[1], q.shape[1]))
        share = np.cumsum(weights[there] / total[there, None], axis=1, dtype=np.float64)
        share /= share[:, -1:]
        wanted = (np.arange(SAMPLES) + 0.5) / SAMPLES
        drawn = np.stack([np.searchsorted(row, wanted) for row in share])
        turned = self._without(
            np.repeat(q[there], SAMPLES, axis=0), positions[drawn.reshape(-1)], part, layer
        )
        weighted = turned * np.repeat(np.sqrt(total[there] / SAMPLES), SAMPLES)[:, None].astype(np.float32)
        return (weighted.T @ weighted).astype(np.float64)

    def _without(self, q: Floats, positions: NDArray[np.int32], part: int, layer: int) -> Floats:
        """Turned back by positions, shape as ``q``."""
        found = np.array(q, np.float32, order="C")
        one = LayerHeads(q.shape[1], q.shape[1], 1)
        self._frame.rope_of(part, layer).turn(found, np.ascontiguousarray(positions), one, back=True)
        return found


def metric(
    frame: Frame, sums: Mapping[str, Doubles], gains: Mapping[str, NDArray[np.float32]], group: Group
) -> Doubles:
    """What a square error of a group's vector costs, shape (width, width).

    Args:
        sums: what ``Sensitivity`` added up; without it every direction costs the same.
        gains: for each part ``weight.PART``: what an error of the output of each layer was measured to cost.
    """
    found = np.zeros((group.width(frame),) * 2)
    for layer, side, where in group.slices(frame):
        heads = frame.heads(group.part, layer)
        size = heads.head_dim_k if side == "k" else heads.head_dim_v
        forms = sums.get(f"sensitivity.{group.part}.{layer}.{side}")
        whole = _whole(forms, sums, group.part, layer) if forms is not None else 1.0
        for head in range(heads.n_head_kv):
            form = np.eye(size)
            if forms is not None:
                form = forms[head] if side == "k" else forms[head] * np.eye(size)
                form = form / whole
            form = form + (LEAST * np.trace(form) / size + NOTHING) * np.eye(size)
            at = slice(where.start + head * size, where.start + (head + 1) * size)
            found[at, at] = form * float(gains[f"weight.{group.part}"][layer]) ** 2
    return found


def _whole(forms: Doubles, sums: Mapping[str, Doubles], part: int, layer: int) -> float:
    """The mean cost of a value of K and V of a layer."""
    k, v = sums[f"sensitivity.{part}.{layer}.k"], sums[f"sensitivity.{part}.{layer}.v"]
    return float(np.trace(k, axis1=1, axis2=2).sum() / (k.shape[0] * k.shape[1]) + v.mean()) / 2
