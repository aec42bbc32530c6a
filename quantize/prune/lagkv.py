"""LagKV (arXiv 2504.04704): tokens whose K and V stand out from what follows them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from quantize.prune.layer import Floats, Layer
from quantize.prune.policy import Policy

LAG = 128
"""Tokens of a partition."""


class LagKV(Policy):
    """Per partition of 128 tokens, with the smallest and largest value of each channel in the partition
    that follows::

        score = mean over K and V of softmax_t(std_channels((x - min) / (max - min)))

    ranked within the partition, so that each keeps as many. The last partition has none that follows: it
    is worth more than all others.
    """

    name: ClassVar[str] = "lagkv"
    title: ClassVar[str] = "tokens that stand out from what follows"

    def score(self, layer: Layer) -> Floats:
        out = np.full((layer.n_head_kv, layer.n_cells), 2.0, np.float32)
        n_whole = layer.n_cells // LAG - 1
        for i in range(n_whole):
            here, after = slice(i * LAG, (i + 1) * LAG), slice((i + 1) * LAG, (i + 2) * LAG)
            both = sum(_weight(x[:, here], x[:, after]) for x in (layer.k, layer.v))
            rank = np.argsort(np.argsort(both, axis=1), axis=1)
            out[:, here] = rank / LAG
        if n_whole > 0:  # what is left over has no partition of its own
            out[:, n_whole * LAG :] += np.arange(layer.n_cells - n_whole * LAG) / layer.n_cells
        else:  # too short to compare: the newest
            out += np.arange(layer.n_cells) / max(1, layer.n_cells)
        return out


def _weight(x: Floats, reference: Floats) -> Floats:
    low, high = reference.min(axis=1, keepdims=True), reference.max(axis=1, keepdims=True)
    spread = ((x - low) / np.maximum(high - low, np.float32(1e-6))).std(axis=2)
    spread = np.exp(spread - spread.max(axis=1, keepdims=True))
    weight: Floats = spread / spread.sum(axis=1, keepdims=True)
    return weight
