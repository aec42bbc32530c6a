"""TOVA (arXiv 2401.06104): the cells that the newest query looks at."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from quantize.prune.layer import Floats, Layer
from quantize.prune.policy import Observation, Policy, group_mean


class Tova(Policy):
    """``score = attention of the last query, mean over all heads of the layer``"""

    name: ClassVar[str] = "tova"
    title: ClassVar[str] = "what the newest token looks at"
    observation: ClassVar[Observation] = Observation("window", 1)
    common_scale: ClassVar[bool] = True

    def score(self, layer: Layer) -> Floats:
        mean = group_mean(layer)
        return np.broadcast_to(mean.mean(axis=0), mean.shape)
