"""Rotary positions, taken out of K before it is compressed and put back after.

With its position in it, K of one token is another vector wherever the token stands, and no basis fits all of
them. Turning it back leaves what the model computed from the content. Both ways use the same angles: if the
settings of a model are not understood in full (a scaling that is not known here), the numbers come
back all the same, they only compress less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantize.geometry import LayerHeads
from quantize.park.rans import functions

if TYPE_CHECKING:
    from quantize.llama import Model

_NORM, _NEOX = 0, 2  # llama_rope_type


@dataclass(frozen=True, slots=True)
class Rope:
    """How a model turns its heads."""

    n_rot: int
    """Values of a head that turn, 0 for all of them."""
    base: float
    factor: float
    """Positions are divided by it (linear scaling)."""
    halves: bool
    """Pairs are (j, j + n / 2), as in NeoX, and not (2 j, 2 j + 1)."""
    used: bool = True
    """False leaves K as it is."""

    def turn(
        self, x: NDArray[np.float32], positions: NDArray[np.int32], heads: LayerHeads, *, back: bool
    ) -> None:
        """Turn K of one layer in place.

        Args:
            x: contiguous, shape (tokens, n_embd_k).
            positions: of the tokens.
            back: take the positions out.
        """
        n_pairs = min(self.n_rot or heads.head_dim_k, heads.head_dim_k) // 2
        if not self.used or not n_pairs or not len(x):
            return
        angles = positions[:, None] * (
            self.base ** (-np.arange(n_pairs) / n_pairs) / self.factor
        )  # float64: positions reach millions
        cosine = np.ascontiguousarray(np.cos(angles), np.float32)
        sine = np.ascontiguousarray(np.sin(angles), np.float32)
        functions().st_park_rope(
            x.ctypes.data,
            len(x),
            heads.n_head_kv,
            heads.head_dim_k,
            n_pairs,
            cosine.ctypes.data,
            sine.ctypes.data,
            self.halves,
            back,
        )


NO_ROPE = Rope(0, 1.0, 1.0, False, used=False)


def rope_of(model: Model) -> Rope:
    """How ``model`` turns its heads, from its metadata."""
    import llama_cpp.llama_cpp as L

    kind = int(L.llama_model_rope_type(model.handle))
    if kind not in (_NORM, _NEOX):
        return NO_ROPE
    architecture = model.metadata("general.architecture") or ""

    def number(key: str, default: float) -> float:
        try:
            value = float(model.metadata(f"{architecture}.rope.{key}") or default)
        except ValueError:
            return default
        return value if math.isfinite(value) and value > 0 else default

    linear = model.metadata(f"{architecture}.rope.scaling.type") == "linear"
    factor = number("scaling.factor", 1.0) if linear else 1.0
    return Rope(int(number("dimension_count", 0)), number("freq_base", 10000.0), factor, kind == _NEOX)
