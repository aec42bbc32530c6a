"""What ggml itself writes: the engine's own graph operations on rows, for comparison.

The same operations that llama.cpp puts into its graph (GET_ROWS, the Hadamard product with its
hint, SET_ROWS), run by ggml's CPU backend on tensors of our own.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize import ggml

F32, I32, I64 = 0, 26, 27
HINT_HADAMARD = 1


class _InitParams(ctypes.Structure):
    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


def _function(name: str, result: Any, *arguments: Any) -> Any:
    f = ggml.LIB[name]  # not getattr: that one object would be shared with the other tests
    f.restype, f.argtypes = result, arguments
    return f


_P, _N = ctypes.c_void_p, ctypes.c_int64
_init = _function("ggml_init", _P, _InitParams)
_free = _function("ggml_free", None, _P)
_tensor = _function("ggml_new_tensor_2d", _P, _P, ctypes.c_int, _N, _N)
_reshape = _function("ggml_reshape_2d", _P, _P, _P, _N, _N)
_get_rows = _function("ggml_get_rows", _P, _P, _P, _P)
_set_rows = _function("ggml_set_rows", _P, _P, _P, _P, _P)
_mul_mat = _function("ggml_mul_mat", _P, _P, _P, _P)
_set_hint = _function("ggml_mul_mat_set_hint", None, _P, ctypes.c_int)
_graph = _function("ggml_new_graph", _P, _P)
_expand = _function("ggml_build_forward_expand", None, _P, _P)
_compute = _function("ggml_graph_compute_with_ctx", ctypes.c_int, _P, _P, ctypes.c_int)
_data = _function("ggml_get_data", _P, _P)


def rewrite(
    rows: NDArray[np.uint8], type_from: int, type_to: int, n_values: int, turn: int
) -> NDArray[np.uint8]:
    """``rows`` (n, bytes) of one type as ggml writes them in another, turned by ``turn`` (0: not)."""
    n = len(rows)
    target_size = ggml.row_format(type_to).row_size(n_values)
    memory = np.zeros(rows.size + n * target_size + 16 * n * n_values + 4 * turn**2 + (1 << 20), np.uint8)
    context = _init(_InitParams(memory.size, memory.ctypes.data, False))
    source = _tensor(context, type_from, n_values, n)
    target = _tensor(context, type_to, n_values, n)
    read_at = _tensor(context, I32, n, 1)
    write_at = _tensor(context, I64, n, 1)
    values = _get_rows(context, source, read_at)
    if turn:
        matrix = _tensor(context, F32, turn, turn)
        values = _mul_mat(context, matrix, _reshape(context, values, turn, n * n_values // turn))
        _set_hint(values, HINT_HADAMARD)
        values = _reshape(context, values, n_values, n)
    result = _set_rows(context, target, values, write_at)
    ctypes.memmove(_data(source), np.ascontiguousarray(rows).ctypes.data, rows.size)
    for tensor, dtype in ((read_at, np.int32), (write_at, np.int64)):
        indices = np.arange(n, dtype=dtype)
        ctypes.memmove(_data(tensor), indices.ctypes.data, indices.nbytes)
    graph = _graph(context)
    _expand(graph, result)
    assert _compute(context, graph, 1) == 0
    written = ctypes.string_at(_data(target), n * target_size)
    _free(context)
    return np.frombuffer(written, np.uint8).reshape(n, target_size)
