"""Rotary positions (RoPE, arXiv 2104.09864): taken out of K, and put back.

With its position in it, K of one token is another vector wherever the token stands, and no basis fits all of
them. Turning it back leaves what the model computed from the content: parking compresses that, pruning
compares it. ``model_ropes.ropes_of`` finds how each layer of a model turns.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize.geometry import LayerHeads
from quantize.native import library

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rope:
    """How one layer turns its heads."""

    theta: tuple[float, ...] = ()
    """Radians per position of each pair of values that turns. Base, scaling, frequency factors and YaRN are
    in it, since all of them are linear in the position. () for a layer whose K is to be taken as it is."""
    magnitude: float = 1.0
    """What turns is multiplied by it (YaRN)."""
    halves: bool = False
    """Pairs are (j, j + n / 2), as in NeoX, and not (2 j, 2 j + 1)."""
    offset: int = 0
    """The first value of a head that turns."""
    known: bool = True
    """False if K has positions in it that cannot be taken out."""

    @property
    def used(self) -> bool:
        """Whether K of the layer has positions in it that can be taken out."""
        return bool(self.theta)

    def angles(self, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        """In radians, shape (positions, pairs); float64 because positions reach millions."""
        return positions[:, None].astype(np.float64) * np.asarray(self.theta, np.float64)

    def turned(self, x: Floats, cosine: NDArray[np.floating], sine: NDArray[np.floating]) -> Floats:
        """``x`` (..., head_dim) turned by angles with these cosines and sines, which broadcast against
        (..., pairs). They may be means over several positions. Nothing is multiplied by ``magnitude``."""
        out = x.astype(np.float32, copy=True)
        n, o = cosine.shape[-1], self.offset
        a, b = slice(o, o + n), slice(o + n, o + 2 * n)
        if not self.halves:
            a, b = slice(o, o + 2 * n, 2), slice(o + 1, o + 2 * n, 2)
        out[..., a] = x[..., a] * cosine - x[..., b] * sine
        out[..., b] = x[..., a] * sine + x[..., b] * cosine
        return out

    def without_positions(self, x: Floats, positions: NDArray[np.int32]) -> Floats:
        """``x`` (heads, tokens, head_dim) of tokens at ``positions``, as it was before RoPE."""
        if not self.used:
            return x
        angles = self.angles(positions)
        return self.turned(x, np.cos(angles) / self.magnitude, -np.sin(angles) / self.magnitude)

    def turn(self, x: Floats, positions: NDArray[np.int32], heads: LayerHeads, *, back: bool) -> None:
        """Turn K of one layer in place, with the native library where it is there.

        Args:
            x: contiguous, shape (tokens, n_embd_k).
            positions: of the tokens.
            back: take the positions out, instead of putting them in.
        """
        if not self.used or not x.size:
            return
        size = 1 / self.magnitude if back else self.magnitude
        cosine, sine = _cosine_and_sine(self, positions.tobytes(), size)
        native = _native()
        if native is not None:
            pointers = x.ctypes.data + self.offset * x.itemsize, cosine.ctypes.data, sine.ctypes.data
            native(*pointers, len(x), heads.n_head_kv, heads.head_dim_k, cosine.shape[1], self.halves, back)
            return
        view = x.reshape(len(x), heads.n_head_kv, heads.head_dim_k)
        view[:] = self.turned(view, cosine[:, None], -sine[:, None] if back else sine[:, None])


Ropes = tuple[tuple[Rope, ...], ...]
"""Of a model: per part of its geometry and layer of the part."""

NO_ROPE = Rope()
"""A layer that knows no positions."""
UNKNOWN_ROPE = Rope(known=False)
"""K of the layer was turned and then changed by something that is not understood: it stays as it is. A parked
K comes back all the same and compresses less; a policy of pruning chooses a little worse."""


def unlike_one_base(ropes: Ropes) -> str:
    """A mark of how a model turns, "" if all layers turn by powers of one base.

    The first conversations were parked when that was all that was known: their K was turned back like this
    whatever the model did, and must not be turned in another way now.
    """
    layers = {rope for part in ropes for rope in part}
    if len(layers) < 2:
        rope = next(iter(layers), NO_ROPE)
        base = rope.theta[1] if len(rope.theta) > 1 else 1.0
        powers = np.power(base, np.arange(len(rope.theta)))
        plain = rope.known and rope.magnitude == 1 and not rope.offset
        if plain and np.allclose(rope.theta, powers, rtol=1e-6, atol=0):
            return ""
    h = hashlib.blake2b(digest_size=8)
    for part in ropes:
        for rope in part:
            theta32 = np.asarray(rope.theta, np.float32).tobytes()
            about = np.float32(rope.magnitude), rope.halves, rope.offset, rope.known, len(theta32)
            h.update(repr(about).encode() + theta32)
        h.update(b"|")
    return h.hexdigest()


@functools.lru_cache(maxsize=32)
def _cosine_and_sine(rope: Rope, positions: bytes, size: float) -> tuple[Floats, Floats]:
    """Each of shape (positions, pairs), times ``size``. Many layers have the same positions and turn alike:
    what was worked out for one serves the others."""
    angles = rope.angles(np.frombuffer(positions, np.int32))
    return (
        np.ascontiguousarray(size * np.cos(angles), np.float32),
        np.ascontiguousarray(size * np.sin(angles), np.float32),
    )


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
