"""Rows of any ggml type, through the library that llama-cpp-python has loaded.

A row is written with the function that ggml's SET_ROWS uses when the engine itself writes the
cache (``from_float`` of the CPU table), so bytes are equal to the engine's. Types that
Stretch's native library registered are found here like the stock ones: always look a type up
after the registration.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from quantize.cache_types import CACHE_TYPES, CacheType
from quantize.errors import CacheTypeError
from quantize.native import require_types

LIB: Any = L._lib
"""The shared library that llama-cpp-python loaded. Never open another copy of it."""

F16 = 1
"""ggml's id of f16."""

N_TYPES = 43
"""Entries of ggml's type table in the verified version; an id beyond it is never looked up."""

_ToFloat = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _Traits(ctypes.Structure):
    """``struct ggml_type_traits``."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
        ("from_float_ref", ctypes.c_void_p),
    )


class _TraitsCpu(ctypes.Structure):
    """The beginning of ``struct ggml_type_traits_cpu``."""

    _fields_ = (("from_float", ctypes.c_void_p),)


@dataclass(frozen=True, slots=True)
class RowFormat:
    """One entry of ggml's type tables, ready to use."""

    id: int
    name: str
    block_size: int
    """Values per block."""
    type_size: int
    """Bytes per block."""
    quantized: bool
    to_float: Any
    """``f(const void *src, float *dst, int64 n)``; None for f32 and for types without one."""
    from_float: Any
    """``f(const float *src, void *dst, int64 n)``; None for types that the CPU cannot write."""

    def row_size(self, n_values: int) -> int:
        """Bytes of ``n_values`` values.

        Raises:
            CacheTypeError: if the block size does not divide them.
        """
        if n_values % self.block_size:
            raise CacheTypeError(
                f"{self.name} stores blocks of {self.block_size} values, which do not divide {n_values}."
            )
        return n_values // self.block_size * self.type_size


def row_format(type_id: int) -> RowFormat:
    """The format with this ggml id.

    Raises:
        CacheTypeError: if ggml has no such type (or it is a removed one), or it is one of Stretch's
            native types and they cannot be registered.
    """
    if not 0 <= type_id < N_TYPES:
        raise CacheTypeError(f"ggml has no type with the id {type_id}.")
    require_types(type_id)
    traits = ctypes.cast(_get_traits(type_id), ctypes.POINTER(_Traits)).contents
    if traits.blck_size <= 0 or traits.type_size == 0:
        raise CacheTypeError(f"ggml has no type with the id {type_id}.")
    cpu = ctypes.cast(_get_traits_cpu(type_id), ctypes.POINTER(_TraitsCpu)).contents
    to_float = traits.to_float
    if type_id == F16:  # the processor's own version; the table's is one value after the other
        to_float = ctypes.cast(LIB.ggml_cpu_fp16_to_fp32, ctypes.c_void_p).value
    return RowFormat(
        type_id,
        (traits.type_name or b"").decode("ascii", "replace"),
        traits.blck_size,
        traits.type_size,
        bool(traits.is_quantized),
        _ToFloat(to_float) if to_float else None,
        _ToFloat(cpu.from_float) if cpu.from_float else None,
    )


def _pointer_function(name: str) -> Any:
    function = getattr(LIB, name)
    function.argtypes = (ctypes.c_int,)
    function.restype = ctypes.c_void_p
    return function


_get_traits = _pointer_function("ggml_get_type_traits")
_get_traits_cpu = _pointer_function("ggml_get_type_traits_cpu")


def dequantize(fmt: RowFormat, data: NDArray[np.uint8], out: NDArray[np.float32]) -> None:
    """Read rows: ``data`` (whole blocks, contiguous) becomes ``out``.

    Raises:
        CacheTypeError: if the type cannot be read back.
        ValueError: if the sizes do not agree or the memory is not what C expects.
    """
    _check_memory(fmt, out, data, out)
    if fmt.id == 0:
        out.reshape(-1)[:] = data.reshape(-1).view(np.float32)
    elif fmt.to_float is None:
        raise CacheTypeError(f"ggml cannot read rows of {fmt.name}.")
    else:
        fmt.to_float(data.ctypes.data, out.ctypes.data, out.size)


def quantize(fmt: RowFormat, values: NDArray[np.float32], out: NDArray[np.uint8]) -> None:
    """Write rows: ``values`` (whole blocks, contiguous) become ``out``.

    Raises:
        CacheTypeError: if the CPU cannot write the type.
        ValueError: if the sizes do not agree or the memory is not what C expects.
    """
    _check_memory(fmt, values, out, out)
    if fmt.from_float is None:
        raise CacheTypeError(f"ggml cannot write rows of {fmt.name} on the CPU.")
    fmt.from_float(values.ctypes.data, out.ctypes.data, values.size)


def _check_memory(
    fmt: RowFormat, values: NDArray[np.float32], data: NDArray[np.uint8], out: NDArray[Any]
) -> None:
    """The C functions check nothing: anything that does not agree would be written past the end."""
    if fmt.row_size(values.size) != data.size:
        raise ValueError(f"{values.size} values are not {data.size} bytes of {fmt.name}")
    if values.dtype != np.float32 or data.dtype != np.uint8:
        raise ValueError(f"rows are uint8 and values float32, not {data.dtype} and {values.dtype}")
    if not (values.flags.c_contiguous and data.flags.c_contiguous and out.flags.writeable):
        raise ValueError("rows and values have to be contiguous, and the result writeable")


def check_table(types: Iterable[CacheType] = CACHE_TYPES.values()) -> None:
    """Compare the table of cache types with the library's own.

    Raises:
        CacheTypeError: naming the first type whose block size, size or functions differ.
    """
    for cache_type in types:
        for v in cache_type.variants:
            fmt = row_format(v.id)
            same = (fmt.block_size, fmt.type_size, fmt.quantized) == (
                v.block_size,
                v.type_size,
                cache_type.quantized,
            )
            named = cache_type.native or fmt.name == cache_type.name
            usable = fmt.from_float is not None and (fmt.to_float is not None or fmt.id == 0)
            if not (same and named and usable):
                raise CacheTypeError(
                    f"The installed llama.cpp describes {cache_type.name} differently "
                    f"({fmt.name}: {fmt.block_size} values in {fmt.type_size} bytes).",
                    "Install the version of llama-cpp-python that Stretch asks for.",
                )
