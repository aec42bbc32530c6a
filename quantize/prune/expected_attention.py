"""Expected Attention (arXiv 2510.00636): the attention that queries to come will give, as a Gaussian."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from quantize.prune.layer import Floats, Layer
from quantize.prune.policy import Observation, Policy

WINDOW = 128
AHEAD = 512
"""Positions to come over which the rotation of the queries is averaged."""


class ExpectedAttention(Policy):
    """With mean mu and covariance Sigma of the queries before RoPE, R the mean rotation of the next 512
    positions, mu' = R mu and Sigma' = R Sigma R'::

        score = softmax(mu' k / sqrt(d) + k' Sigma' k / 2d) * |v|

    meaned over the query heads that share the KV head.
    """

    name: ClassVar[str] = "expected_attention"
    title: ClassVar[str] = "the attention that is to be expected"
    observation: ClassVar[Observation] = Observation("window", WINDOW, WINDOW)

    def score(self, layer: Layer) -> Floats:
        dim, n_head = layer.k.shape[2], layer.queries.shape[1]
        queries = layer.queries.swapaxes(0, 1)
        if layer.rope.used:
            queries = layer.rope.without_positions(queries, layer.query_positions)
            ahead = int(layer.positions.max(initial=-1)) + 1 + np.arange(AHEAD, dtype=np.int32)
            angles, size = layer.rope.angles(ahead), layer.rope.magnitude
            queries = layer.rope.turned(queries, size * np.cos(angles).mean(0), size * np.sin(angles).mean(0))
        mean = queries.mean(axis=1)  # (n_head, dim)
        centred = queries - mean[:, None]
        group = max(1, n_head // max(1, layer.n_head_kv))
        out = np.zeros((layer.n_head_kv, layer.n_cells), np.float32)
        for head in range(layer.n_head_kv):
            k = layer.k[head]
            for q in range(head * group, (head + 1) * group):
                spread = np.square(k @ centred[q].T).mean(axis=1) / (2 * dim)
                logits = k @ mean[q] / np.sqrt(dim) + spread
                p = np.exp(logits - logits.max(initial=-np.inf))
                out[head] += p / p.sum() / group
            out[head] *= np.linalg.norm(layer.v[head], axis=1)
        return out
