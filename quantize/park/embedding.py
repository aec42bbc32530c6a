"""Rows of the token embedding of a loaded model, read from its file.

What a layer keeps of a token depends most on the token itself, and the token ids are stored anyway: the
embedding is what a codec can know about a cache for nothing.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.errors import StateError
from quantize.llama import LIB, Model

_TENSOR = b"token_embd.weight"


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


class Embedding:
    """Reads rows on demand; the file is mapped, not loaded."""

    def __init__(self, model: Model) -> None:
        """
        Raises:
            StateError: if the file has no embedding that can be read.
        """
        self.n_embd = int(L.llama_model_n_embd(model.handle))
        self.n_vocab = model.n_vocab
        self._rows = self._map(model.path)

    def _map(self, path: Path) -> NDArray[np.uint8]:
        gguf = _gguf()
        context = gguf.gguf_init_from_file(str(path).encode(), _InitParams(True, None))
        if not context:
            raise StateError(f"The header of {path.name} cannot be read.")
        try:
            index = gguf.gguf_find_tensor(context, _TENSOR)
            if index < 0:
                raise StateError(f"{path.name} holds no token embedding.")
            offset = gguf.gguf_get_data_offset(context) + gguf.gguf_get_tensor_offset(context, index)
            size = gguf.gguf_get_tensor_size(context, index)
            self._format = ggml.row_format(gguf.gguf_get_tensor_type(context, index))
        finally:
            gguf.gguf_free(context)
        if self._format.row_size(self.n_embd) * self.n_vocab != size:
            raise StateError(f"The token embedding of {path.name} has an unusual shape.")
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, np.uint8, size, offset).reshape(self.n_vocab, -1)

    def rows(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Embeddings of ``tokens`` divided by their root mean square, as the first norm of a layer does.

        Shape (len(tokens), n_embd). A token outside of the vocabulary has zeros.
        """
        known = (tokens >= 0) & (tokens < self.n_vocab)
        raw = np.ascontiguousarray(self._rows[np.where(known, tokens, 0)])
        values = np.empty((len(tokens), self.n_embd), np.float32)
        ggml.dequantize(self._format, raw.reshape(-1), values)
        values /= np.sqrt(np.mean(values * values, axis=1, keepdims=True) + 1e-6)
        values[~known] = 0
        return values
