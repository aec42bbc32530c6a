"""KVzip (arXiv 2505.23416): the cells that are needed to repeat the text, weighed by what they add."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from quantize.prune.keydiff import TINY
from quantize.prune.layer import Floats, Layer
from quantize.prune.policy import POLICIES, Observation, Policy


class KVzip(Policy):
    """``score = max_q p * |v - mean v| * (1 - cos(k, mean k)) * sqrt(leverage(k))``

    ``max_q p`` is KVzip's own score: the largest attention of any query while the text is repeated. Heads
    that copy give nearly every token a probability near 1, so in small models it says little about which of
    them to keep. A cell adds ``p v`` to the output, so ``p`` counts with the norm of the value (KVzap, arXiv
    2601.07891, does this with the output matrix in it) without what all values share, which any other cell
    adds as well. The last two factors (``keydiff``, ``leverage``) are for keys that no other cell can stand
    in for. ``docs/pruning.md`` has the figures of each factor.
    """

    name: ClassVar[str] = "kvzip"
    title: ClassVar[str] = "what it takes to repeat the text"
    observation: ClassVar[Observation] = Observation("replay")
    common_scale: ClassVar[bool] = True

    def score(self, layer: Layer) -> Floats:
        if layer.seen is None:
            raise ValueError("KVzip needs the attention of the cells")
        added = np.linalg.norm(layer.v - layer.v.mean(axis=1, keepdims=True), axis=2)
        # Values are larger in later layers; whole tokens are chosen by sums over all of them.
        added /= np.maximum(added.mean(axis=1, keepdims=True), TINY)
        unlike = 1 + POLICIES["keydiff"].score(layer)
        unspanned = np.sqrt(np.maximum(POLICIES["leverage"].score(layer), 0))
        score: Floats = layer.seen.most * added * unlike * unspanned
        return score
