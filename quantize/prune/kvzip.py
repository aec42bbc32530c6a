"""KVzip (arXiv 2505.23416): the cells that are needed to repeat the text."""

from __future__ import annotations

from typing import ClassVar

from quantize.prune.layer import Floats, Layer
from quantize.prune.policy import Observation, Policy


class KVzip(Policy):
    """``score = largest attention of any query while the text is repeated``"""

    name: ClassVar[str] = "kvzip"
    title: ClassVar[str] = "what it takes to repeat the text"
    observation: ClassVar[Observation] = Observation("replay")
    common_scale: ClassVar[bool] = True

    def score(self, layer: Layer) -> Floats:
        if layer.seen is None:
            raise ValueError("KVzip needs the attention of the cells")
        return layer.seen.most
