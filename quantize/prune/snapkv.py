"""SnapKV (arXiv 2404.14469): the cells, and their neighbours, that the newest queries look at."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from quantize.prune.layer import Floats, Layer
from quantize.prune.policy import Observation, Policy, group_mean

WINDOW = 64
POOL = 5


class SnapKV(Policy):
    """``score = mean attention of the last 64 queries over the GQA group, average of 5 neighbours``"""

    name: ClassVar[str] = "snapkv"
    title: ClassVar[str] = "what the newest 64 tokens look at"
    observation: ClassVar[Observation] = Observation("window", WINDOW)
    common_scale: ClassVar[bool] = True

    def score(self, layer: Layer) -> Floats:
        mean = group_mean(layer)
        padded = np.pad(mean, ((0, 0), (POOL // 2, POOL // 2)), mode="edge")
        sums = np.cumsum(np.pad(padded, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
        pooled = (sums[:, POOL:] - sums[:, :-POOL]) / POOL
        return pooled.astype(np.float32)
