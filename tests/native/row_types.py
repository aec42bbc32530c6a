"""The C library's table of row formats, through ctypes, for the tests of the cache types."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.native.library import load

TQ_IDS = {
    ("tq4", 128): 31,
    ("tq3", 128): 32,
    ("tq2", 128): 33,
    ("tq4", 64): 36,
    ("tq3", 64): 37,
    ("tq2", 64): 38,
}
STOCK_IDS = {"f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
ISAS = {"portable": 0, "neon": 1, "avx2": 2, "avx512": 3}

_Convert = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _Rows(ctypes.Structure):
    """``st_rows`` of stretch.h."""

    _fields_ = (
        ("src", ctypes.c_void_p),
        ("stride", ctypes.c_size_t),
        ("ahead", ctypes.c_size_t),
        ("n_row", ctypes.c_int32),
        ("n", ctypes.c_int32),
        ("step", ctypes.c_int32),
        ("q", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("offset", ctypes.c_void_p),
    )


_ToI8 = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Rows))


class _RowType(ctypes.Structure):
    """``st_row_type`` of stretch.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int32),
        ("block", ctypes.c_int32),
        ("type_size", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("has_offset", ctypes.c_bool),
        ("q_max", ctypes.c_int8),
        ("to_f32", _Convert),
        ("to_i8", _ToI8),
        ("from_f32", _Convert),
    )


@dataclass(frozen=True)
class Integers:
    """What a row is made of: value = scale * level + offset."""

    levels: NDArray[np.int8]
    scales: NDArray[np.float32]
    offsets: NDArray[np.float32] | None


class RowType:
    """One format for the instruction set that is active when it is made."""

    def __init__(self, type_id: int) -> None:
        library, status = load()
        assert library is not None, status.reason
        library.st_row_type_find.restype = ctypes.POINTER(_RowType)
        library.st_row_type_find.argtypes = [ctypes.c_int32]
        found = library.st_row_type_find(type_id)
        assert found, f"no reader for type {type_id}"
        self._c = found.contents
        self.name = self._c.name.decode()
        self.block: int = self._c.block
        self.type_size: int = self._c.type_size
        self.group: int = self._c.group
        self.q_max: int = self._c.q_max

    def write(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Rows of ``values``, shape (blocks, type_size)."""
        values = np.ascontiguousarray(values, np.float32)
        out = np.zeros((values.size // self.block, self.type_size), np.uint8)
        self._c.from_f32(values.ctypes.data, out.ctypes.data, values.size)
        return out

    def read(self, data: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Values of whole blocks, shape (blocks, block)."""
        out = np.empty((data.size // self.type_size, self.block), np.float32)
        self._c.to_f32(data.ctypes.data, out.ctypes.data, out.size)
        return out

    def integers(self, data: NDArray[np.uint8], n_row: int = 1) -> Integers:
        """The parts of whole blocks, read as ``n_row`` rows of equal length."""
        data = np.ascontiguousarray(data)
        n = data.size // self.type_size * self.block // n_row
        step = n_row + 3  # so that a wrong distance would show
        levels = np.empty((n_row, n), np.int8)
        scales, offsets = np.full((2, n // self.group, step), np.nan, np.float32)
        pointers = (a.ctypes.data for a in (levels, scales, offsets))
        stride = data.size // n_row
        self._c.to_i8(ctypes.byref(_Rows(data.ctypes.data, stride, stride, n_row, n, step, *pointers)))
        assert np.isnan(scales[:, n_row:]).all()
        by_row = (np.ascontiguousarray(a[:, :n_row].T).ravel() for a in (scales, offsets))
        scale, offset = by_row
        return Integers(levels.reshape(-1, self.group), scale, offset if self._c.has_offset else None)


class UseIsa:
    """``with UseIsa("avx2"):`` the readers of that instruction set are found."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        library: Any = load()[0]
        self._before = library.st_isa_active()
        assert library.st_isa_use(ISAS[self.name]) == ISAS[self.name]

    def __exit__(self, *_: object) -> None:
        load()[0].st_isa_use(self._before)


def available_isas() -> list[str]:
    """Instruction sets that this machine can run, the portable one first."""
    library: Any = load()[0]
    if library is None:
        return []
    best = library.st_isa_detected()
    return {0: ["portable"], 1: ["portable", "neon"], 2: ["portable", "avx2"]}.get(
        best, ["portable", "avx2", "avx512"]
    )
