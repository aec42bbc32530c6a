"""All policies, in the order in which they are offered."""

from __future__ import annotations

from quantize.prune.expected_attention import ExpectedAttention
from quantize.prune.h2o import H2O
from quantize.prune.keydiff import KeyDiff
from quantize.prune.knorm import Knorm
from quantize.prune.kvzip import KVzip
from quantize.prune.lagkv import LagKV
from quantize.prune.leverage import Leverage
from quantize.prune.outlier import Outlier
from quantize.prune.snapkv import SnapKV
from quantize.prune.streaming import Streaming
from quantize.prune.tova import Tova

__all__ = [
    "H2O",
    "ExpectedAttention",
    "KVzip",
    "KeyDiff",
    "Knorm",
    "LagKV",
    "Leverage",
    "Outlier",
    "SnapKV",
    "Streaming",
    "Tova",
]
