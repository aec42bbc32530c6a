"""H2O (arXiv 2306.14048): the cells that got most attention from all queries so far."""

from __future__ import annotations

from typing import ClassVar

from quantize.prune.layer import Floats, Layer
from quantize.prune.policy import Observation, Policy, group_mean


class H2O(Policy):
    """``score = sum over all queries of their attention``"""

    name: ClassVar[str] = "h2o"
    title: ClassVar[str] = "most attention from the whole text"
    observation: ClassVar[Observation] = Observation("everything")
    common_scale: ClassVar[bool] = True

    def score(self, layer: Layer) -> Floats:
        return group_mean(layer)
