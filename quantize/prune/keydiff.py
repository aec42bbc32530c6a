"""KeyDiff (arXiv 2504.15364): keys that are unlike the others."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from quantize.prune.layer import Floats, Layer
from quantize.prune.policy import Policy

TINY = np.float32(1e-12)


class KeyDiff(Policy):
    """``score = -cos(k, mean_j(k_j / |k_j|))``"""

    name: ClassVar[str] = "keydiff"
    title: ClassVar[str] = "keys unlike the others"

    def score(self, layer: Layer) -> Floats:
        unit = layer.k / np.maximum(np.linalg.norm(layer.k, axis=2, keepdims=True), TINY)
        anchor = unit.mean(axis=1, keepdims=True)
        anchor /= np.maximum(np.linalg.norm(anchor, axis=2, keepdims=True), TINY)
        score: Floats = -(unit * anchor).sum(axis=2)
        return score
