"""Rows of a cache made ready for a basis, multiplied by it, and the way back (``native/park_rows.h``).

Values and components come first and tokens second: every loop then runs over contiguous memory.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize.park.rans import functions

Floats = NDArray[np.float32]

_BESIDE = 64  # ST_PRODUCT_ROOM


class _Known(ctypes.Structure):
    """``st_park_known``."""

    _fields_ = (
        ("now", ctypes.c_void_p),
        ("before", ctypes.c_void_p),
        ("at", ctypes.c_void_p),
        ("at_before", ctypes.c_void_p),
        ("width", ctypes.c_int64),
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of each token of a stretch before its code is read: ``now[at] + before[at_before]``.

    All arrays are contiguous.
    """

    now: Floats
    """Shape (rows, width)."""
    at: NDArray[np.int64]
    """A row for each token."""
    before: Floats | None = None
    at_before: NDArray[np.int64] | None = None

    def native(self) -> _Known:
        """For the native library; valid as long as this object is."""
        before = None if self.before is None else self.before.ctypes.data
        at_before = None if self.at_before is None else self.at_before.ctypes.data
        return _Known(self.now.ctypes.data, before, self.at.ctypes.data, at_before, self.now.shape[1])


def centre(x: Floats, weight: float, known: Known, first: int, out: Floats) -> None:
    """``out[first + j, i] = x[i, j] * weight - known[i, first + j]``.

    Args:
        x: rows of a layer, contiguous, shape (tokens, values).
        out: shape (known.now.shape[1], tokens).
    """
    xt = out[first : first + x.shape[1]]
    functions().st_park_centre(
        x.ctypes.data, *x.shape, weight, ctypes.byref(known.native()), first, xt.ctypes.data
    )


def uncentre(xt: Floats, weight: float, known: Known, first: int, width: int) -> Floats:
    """The way back: ``(xt[first + j, i] + known[i, first + j]) / weight``, shape (tokens, width).

    Args:
        xt: contiguous, shape (known.now.shape[1], tokens).
    """
    x = np.empty((xt.shape[1], width), np.float32)
    functions().st_park_uncentre(
        xt[first:].ctypes.data, *x.shape, weight, ctypes.byref(known.native()), first, x.ctypes.data
    )
    return x


def product(a: Floats, b: Floats) -> Floats:
    """``a.T @ b`` for contiguous ``a`` and ``b`` of as many rows: the same bits whatever the machine, but for
    one without fused multiply-adds."""
    (k, m), n = a.shape, b.shape[1]
    c = np.empty((m, n), np.float32)
    room = np.empty(k * (m + _BESIDE), np.float32)
    functions().st_product(a.ctypes.data, b.ctypes.data, c.ctypes.data, m, n, k, room.ctypes.data)
    return c
