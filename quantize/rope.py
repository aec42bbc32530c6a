"""Rotary positions (RoPE, arXiv 2104.09864): read from a model, taken out of K, and put back.

With its position in it, K of one token is another vector wherever the token stands, and no basis fits all of
them. Turning it back leaves what the model computed from the content: parking compresses that, pruning
compares it. Where a model's settings are not understood in full (a scaling that is not known here), a parked
K comes back all the same, because both ways use the same angles, and compresses less; a policy of
pruning chooses a little worse; nothing else happens.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantize.geometry import LayerHeads
from quantize.native import library

if TYPE_CHECKING:
    from quantize.llama import Model

_NORM, _NEOX = 0, 2  # enum llama_rope_type

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rope:
    """How a model turns its heads."""

    n_rot: int = 0
    """Values of a head that turn, 0 for all of them."""
    base: float = 10000.0
    factor: float = 1.0
    """Positions are divided by it (linear scaling)."""
    halves: bool = False
    """Pairs are (j, j + n / 2), as in NeoX, and not (2 j, 2 j + 1)."""
    used: bool = True
    """False for a model without rotary positions: K stays as it is."""

    def angles(self, positions: NDArray[np.int32], head_dim: int) -> NDArray[np.float64]:
        """In radians, shape (positions, pairs); float64 because positions reach millions."""
        n = min(self.n_rot or head_dim, head_dim) // 2
        return positions[:, None] * (self.base ** (-np.arange(n) / n) / self.factor)

    def turned(self, x: Floats, cosine: NDArray[np.floating], sine: NDArray[np.floating]) -> Floats:
        """``x`` (..., head_dim) turned by angles with these cosines and sines, which broadcast against
        (..., pairs). They may be means over several positions."""
        out = x.astype(np.float32, copy=True)
        n = cosine.shape[-1]
        a, b = (slice(0, n), slice(n, 2 * n)) if self.halves else (slice(0, 2 * n, 2), slice(1, 2 * n, 2))
        out[..., a] = x[..., a] * cosine - x[..., b] * sine
        out[..., b] = x[..., a] * sine + x[..., b] * cosine
        return out

    def without_positions(self, x: Floats, positions: NDArray[np.int32]) -> Floats:
        """``x`` (heads, tokens, head_dim) of tokens at ``positions``, as it was before RoPE."""
        if not self.used:
            return x
        angles = self.angles(positions, x.shape[-1])
        return self.turned(x, np.cos(angles), -np.sin(angles))

    def turn(self, x: Floats, positions: NDArray[np.int32], heads: LayerHeads, *, back: bool) -> None:
        """Turn K of one layer in place, with the native library where it is there.

        Args:
            x: contiguous, shape (tokens, n_embd_k).
            positions: of the tokens.
            back: take the positions out, instead of putting them in.
        """
        if not self.used or not x.size:
            return
        cosine, sine = _cosine_and_sine(self, positions.tobytes(), heads.head_dim_k)
        native = _native()
        if native is not None:
            pointers = x.ctypes.data, cosine.ctypes.data, sine.ctypes.data
            native(*pointers, len(x), heads.n_head_kv, heads.head_dim_k, cosine.shape[1], self.halves, back)
            return
        view = x.reshape(len(x), heads.n_head_kv, heads.head_dim_k)
        view[:] = self.turned(view, cosine[:, None], -sine[:, None] if back else sine[:, None])


NO_ROPE = Rope(used=False)


@functools.lru_cache(maxsize=16)
def _cosine_and_sine(rope: Rope, positions: bytes, head_dim: int) -> tuple[Floats, Floats]:
    """Each of shape (positions, pairs). Every layer has the same positions: what was worked out for the first
    serves the others, in texts of up to 16 stretches."""
    angles = rope.angles(np.frombuffer(positions, np.int32), head_dim)
    return (
        np.ascontiguousarray(np.cos(angles), np.float32),
        np.ascontiguousarray(np.sin(angles), np.float32),
    )


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


@functools.cache
def _native() -> Callable[..., None] | None:
    """``st_rope`` of the native library, or None."""
    function = getattr(library.load()[0], "st_rope", None)
    if function is None:
        return None
    p, i64, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_bool
    function.argtypes = (p, p, p, i64, i64, i64, i64, flag, flag)
    function.restype = None
    found: Callable[..., None] = function
    return found
