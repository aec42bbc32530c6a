"""Keys that are unlike the others and not spanned by them: the ranks of KeyDiff and leverage, added."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from quantize.prune.keydiff import KeyDiff
from quantize.prune.layer import Floats, Layer
from quantize.prune.leverage import Leverage
from quantize.prune.policy import POLICIES, Policy


class Outlier(Policy):
    """``score = rank(keydiff) + rank(leverage)``, ranks within a head, 0 for the lowest.

    Each of the two fails on some model where the other does not (``docs/pruning.md``).
    """

    name: ClassVar[str] = "outlier"
    title: ClassVar[str] = "keys unlike the others and not spanned by them"

    def score(self, layer: Layer) -> Floats:
        score = np.zeros((layer.n_head_kv, layer.n_cells), np.float32)
        for policy in (KeyDiff, Leverage):
            order = POLICIES[policy.name].score(layer).argsort(axis=1, kind="stable")
            score += order.argsort(axis=1)
        return score
