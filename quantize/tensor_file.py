"""A tensor in a model's file, found with ggml's own reader of GGUF headers."""

from __future__ import annotations

import ctypes
import functools
import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.errors import CacheTypeError
from quantize.llama import LIB

_F32 = 0


class _InitParams(ctypes.Structure):
    """``struct gguf_init_params``."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


@functools.cache
def _gguf() -> Any:
    LIB.gguf_init_from_file.argtypes = (ctypes.c_char_p, _InitParams)
    LIB.gguf_init_from_file.restype = ctypes.c_void_p
    LIB.gguf_free.argtypes = (ctypes.c_void_p,)
    LIB.gguf_find_tensor.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    LIB.gguf_find_tensor.restype = ctypes.c_int64
    for name in ("gguf_get_tensor_offset", "gguf_get_tensor_size"):
        getattr(LIB, name).argtypes = (ctypes.c_void_p, ctypes.c_int64)
        getattr(LIB, name).restype = ctypes.c_size_t
    LIB.gguf_get_tensor_type.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    LIB.gguf_get_tensor_type.restype = ctypes.c_int
    LIB.gguf_get_data_offset.argtypes = (ctypes.c_void_p,)
    LIB.gguf_get_data_offset.restype = ctypes.c_size_t
    return LIB


def map_tensor(path: Path, name: str) -> tuple[ggml.RowFormat, NDArray[np.uint8]] | None:
    """The type and the bytes of a tensor, mapped and not read; None if the file has none of this name.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no GGUF file, or shorter than its header says.
        CacheTypeError: if rows of this type cannot be read.
    """
    gguf = _gguf()
    context = gguf.gguf_init_from_file(str(path).encode(), _InitParams(True, None))
    if not context:
        raise ValueError(f"the header of {path.name} cannot be read")
    try:
        index = gguf.gguf_find_tensor(context, name.encode())
        if index < 0:
            return None
        offset = gguf.gguf_get_data_offset(context) + gguf.gguf_get_tensor_offset(context, index)
        size = gguf.gguf_get_tensor_size(context, index)
        fmt = ggml.row_format(gguf.gguf_get_tensor_type(context, index))
    finally:
        gguf.gguf_free(context)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return fmt, np.frombuffer(mapped, np.uint8, size, offset)


def read_floats(path: Path, name: str) -> tuple[float, ...]:
    """The values of a small f32 tensor; () if the file has none of this name or it cannot be read."""
    try:
        found = map_tensor(path, name)
    except (OSError, ValueError, CacheTypeError):
        return ()
    if found is None or found[0].id != _F32:
        return ()
    return tuple(found[1].view("<f4").tolist())
