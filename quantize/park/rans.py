"""Quantizing and entropy coding of components, by the native library (``native/park_rows.h``, ``park.h``)."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.errors import CacheTypeError, StateError
from quantize.native import library as native
from quantize.park.tables import BIAS, SYMBOLS, WIDEST, library

Numbers = NDArray[np.int32]
"""Quantized values, shape (components, tokens)."""

MAX_SHIFT = 24


@functools.cache
def _functions() -> Any:
    found, status = native.load()
    if found is None or not hasattr(found, "st_park_centre"):
        return None, status.reason or native.NOT_BUILT
    p, i64, f32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    found.st_park_quantize.argtypes = (p, i64, i64, f32, f32, p)
    found.st_park_dequantize.argtypes = (p, i64, i64, f32, p, p, p)
    found.st_park_squares.argtypes = (p, i64, i64, p)
    found.st_park_count.argtypes = (p, i64, i64, p, p)
    found.st_park_bound.argtypes = (i64, i64, p)
    found.st_park_bound.restype = i64
    found.st_park_encode.argtypes = (p, i64, i64, p, p, p, p)
    found.st_park_encode.restype = i64
    found.st_park_decode.argtypes = (p, i64, i64, i64, p, p, p, p)
    found.st_park_decode.restype = ctypes.c_bool
    found.st_park_centre.argtypes = (p, i64, i64, f32, p, i64, p)
    found.st_park_uncentre.argtypes = (p, i64, i64, f32, p, i64, p)
    found.st_product.argtypes = (p, p, p, i64, i64, i64, p)
    for name in ("quantize", "squares", "dequantize", "count", "centre", "uncentre"):
        getattr(found, f"st_park_{name}").restype = None
    found.st_product.restype = None
    return found, ""


def obstacle() -> str:
    """Why nothing can be coded here, in one sentence; empty if it can."""
    return str(_functions()[1])


def functions() -> Any:
    """The native library with the types of its ``st_park`` functions.

    Raises:
        CacheTypeError: if it is not there.
    """
    found, reason = _functions()
    if found is None:
        raise CacheTypeError(reason, "Choose the codec ggml.")
    return found


def quantize(y: NDArray[np.float32], step: float) -> Numbers:
    """``y``, contiguous and of shape (components, tokens), in whole steps."""
    z = np.empty(y.shape, np.int32)
    functions().st_park_quantize(y.ctypes.data, y.shape[1], len(y), 1 / step, BIAS, z.ctypes.data)
    return z


def dequantize(
    z: Numbers, step: float, table: NDArray[np.uint8], shift: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """The values in the middle of what was quantized to ``z``; its shape."""
    known = library()
    inside = (shift == 0).astype(np.float32)
    delta1 = np.ascontiguousarray(known.delta1[table] * inside)
    delta2 = np.ascontiguousarray(known.delta2[table] * inside)
    y = np.empty(z.shape, np.float32)
    functions().st_park_dequantize(
        z.ctypes.data, z.shape[1], len(z), step, delta1.ctypes.data, delta2.ctypes.data, y.ctypes.data
    )
    return y


def squares(z: Numbers) -> NDArray[np.float32]:
    """The sum of the squares of each component."""
    found = np.empty(len(z), np.float32)
    functions().st_park_squares(z.ctypes.data, z.shape[1], len(z), found.ctypes.data)
    return found


def count(z: Numbers) -> NDArray[np.float32]:
    """How often each component, none of them shifted, has each symbol; shape (components, SYMBOLS)."""
    counts = np.empty((len(z), SYMBOLS), np.uint32)
    shift = np.zeros(len(z), np.uint8)
    functions().st_park_count(z.ctypes.data, z.shape[1], len(z), shift.ctypes.data, counts.ctypes.data)
    return counts.astype(np.float32)


def choose(z: Numbers) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """For each component the table and the shift that code it best, and the bits that takes."""
    known = library()
    width = np.sqrt(np.maximum(squares(z) / max(z.shape[1], 1), 1e-9))
    shift = np.ceil(np.clip(np.log2(width / WIDEST), 0, MAX_SHIFT)).astype(np.uint8)
    counts = np.empty((len(z), SYMBOLS), np.uint32)
    functions().st_park_count(z.ctypes.data, z.shape[1], len(z), shift.ctypes.data, counts.ctypes.data)
    cost = counts.astype(np.float32) @ known.bits
    table = cost.argmin(axis=1).astype(np.uint8)
    bits = cost[np.arange(len(z)), table] + shift * np.float32(z.shape[1])
    return table, shift, bits


def encode(z: Numbers, table: NDArray[np.uint8], shift: NDArray[np.uint8]) -> bytes:
    """``z`` as bytes. It has to be contiguous."""
    lib, known = functions(), library()
    out = np.empty(lib.st_park_bound(z.shape[1], len(z), shift.ctypes.data), np.uint8)
    size = lib.st_park_encode(
        z.ctypes.data,
        z.shape[1],
        len(z),
        table.ctypes.data,
        shift.ctypes.data,
        ctypes.byref(known.pointers),
        out.ctypes.data,
    )
    return out[:size].tobytes()


def decode(data: bytes, n: int, table: NDArray[np.uint8], shift: NDArray[np.uint8]) -> Numbers:
    """What was encoded, shape (len(table), n).

    Raises:
        StateError: if ``data`` is not what ``encode`` makes of such numbers.
    """
    z = np.empty((len(table), n), np.int32)
    good = functions().st_park_decode(
        data,
        len(data),
        n,
        len(table),
        table.ctypes.data,
        shift.ctypes.data,
        ctypes.byref(library().pointers),
        z.ctypes.data,
    )
    if not good:
        raise StateError("A block of the parked conversation is damaged.")
    return z
