"""Knorm (arXiv 2406.11430): keys of small norm get much attention."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from quantize.prune.layer import Floats, Layer
from quantize.prune.policy import Policy


class Knorm(Policy):
    """``score = -|k|``"""

    name: ClassVar[str] = "knorm"
    title: ClassVar[str] = "keys of small norm"

    def score(self, layer: Layer) -> Floats:
        norm: Floats = -np.linalg.norm(layer.k, axis=2)
        return norm
