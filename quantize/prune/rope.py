"""Rotary positions (arXiv 2104.09864), taken out of K or put into queries.

Only scores are computed from the result: where a model's settings are not understood in full (a scaling
that is not known here), a policy chooses a little worse and nothing else happens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from quantize.llama import Model

_NORM, _NEOX = 0, 2  # enum llama_rope_type


@dataclass(frozen=True, slots=True)
class Rope:
    """How a model turns its heads."""

    n_rot: int = 0
    """Values of a head that turn, 0 for all of them."""
    base: float = 10000.0
    factor: float = 1.0
    """Positions are divided by it."""
    halves: bool = False
    """Pairs are (j, j + n / 2), as in NeoX, and not (2 j, 2 j + 1)."""
    used: bool = True
    """False for a model without rotary positions."""

    def angles(self, positions: NDArray[np.int32], head_dim: int) -> NDArray[np.float64]:
        """Shape (positions, pairs)."""
        n = min(self.n_rot or head_dim, head_dim) // 2
        return positions[:, None] * (self.base ** (-np.arange(n) / n) / self.factor)

    def turned(
        self, x: NDArray[np.float32], cosine: NDArray[np.float64], sine: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """``x`` (..., head_dim) turned by angles with these cosines and sines, which broadcast against
        (..., pairs). They may be means over several positions."""
        out = x.astype(np.float32, copy=True)
        n = cosine.shape[-1]
        a, b = (slice(0, n), slice(n, 2 * n)) if self.halves else (slice(0, 2 * n, 2), slice(1, 2 * n, 2))
        out[..., a] = x[..., a] * cosine - x[..., b] * sine
        out[..., b] = x[..., a] * sine + x[..., b] * cosine
        return out

    def without_positions(self, x: NDArray[np.float32], positions: NDArray[np.int32]) -> NDArray[np.float32]:
        """``x`` (heads, tokens, head_dim) of tokens at ``positions``, as it was before RoPE."""
        if not self.used:
            return x
        angles = self.angles(positions, x.shape[-1])
        return self.turned(x, np.cos(angles), -np.sin(angles))


NO_ROPE = Rope(used=False)


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
