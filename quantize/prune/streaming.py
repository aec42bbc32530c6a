"""StreamingLLM (arXiv 2309.17453): the first tokens and the most recent ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from quantize.prune.layer import Floats, Layer
from quantize.prune.policy import Policy


class Streaming(Policy):
    """``score = position``; the first tokens are protected for every policy."""

    name: ClassVar[str] = "streaming"
    title: ClassVar[str] = "the first and the newest tokens"

    def score(self, layer: Layer) -> Floats:
        return np.broadcast_to(layer.positions.astype(np.float32), (layer.n_head_kv, layer.n_cells))
