"""Leverage scores of the keys (as in Compactor, arXiv 2507.08143): rows that the others do not span."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from quantize.prune.layer import Floats, Layer
from quantize.prune.policy import Policy

SKETCH = 48
"""Columns of the Gaussian sketch."""


class Leverage(Policy):
    """``score = diag(X (X'X)^-1 X')`` of keys before RoPE, centred and sketched to 48 columns."""

    name: ClassVar[str] = "leverage"
    title: ClassVar[str] = "keys that the others do not span"

    def score(self, layer: Layer) -> Floats:
        dim = layer.k.shape[2]
        sketch = np.random.default_rng(0).normal(size=(dim, SKETCH)) / np.sqrt(SKETCH)
        out = np.empty((layer.n_head_kv, layer.n_cells), np.float32)
        for head, k in enumerate(layer.k_plain):
            x = (k - k.mean(axis=0)).astype(np.float64) @ sketch
            gram = x.T @ x
            gram += np.eye(SKETCH) * (1e-6 * np.trace(gram) / SKETCH + 1e-12)
            out[head] = np.einsum("ij,ji->i", x, np.linalg.solve(gram, x.T))
        return out
