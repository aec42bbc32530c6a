"""ggml's own rotary positions, computed by its CPU backend."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from quantize.llama import LIB
from quantize.rope_parameters import RopeParameters

F32, I32 = 0, 26


class _InitParams(ctypes.Structure):
    """``struct ggml_init_params``."""

    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


@functools.cache
def _ggml() -> Any:
    L.llama_backend_init()
    p, i32, i64, f32, size = (
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_int64,
        ctypes.c_float,
        ctypes.c_size_t,
    )
    numbers = (f32,) * 6
    for name, result, arguments in (
        ("ggml_init", p, (_InitParams,)),
        ("ggml_free", None, (p,)),
        ("ggml_new_tensor_4d", p, (p, i32, i64, i64, i64, i64)),
        ("ggml_rope_ext", p, (p, p, p, p, i32, i32, i32, *numbers)),
        ("ggml_rope_multi", p, (p, p, p, p, i32, ctypes.POINTER(ctypes.c_int), i32, i32, *numbers)),
        ("ggml_rope_set_offset", p, (p, i32)),
        ("ggml_new_graph", p, (p,)),
        ("ggml_build_forward_expand", None, (p, p)),
        ("ggml_backend_dev_by_type", p, (i32,)),
        ("ggml_backend_dev_init", p, (p, ctypes.c_char_p)),
        ("ggml_backend_alloc_ctx_tensors", p, (p, p)),
        ("ggml_backend_tensor_set", None, (p, p, size, size)),
        ("ggml_backend_tensor_get", None, (p, p, size, size)),
        ("ggml_backend_graph_compute", i32, (p, p)),
        ("ggml_backend_buffer_free", None, (p,)),
        ("ggml_backend_free", None, (p,)),
    ):
        function = getattr(LIB, name)
        function.restype, function.argtypes = result, arguments
    return LIB


def ggml_rope(
    x: NDArray[np.float32], positions: NDArray[np.int32], parameters: RopeParameters
) -> NDArray[np.float32]:
    """``x`` of shape (tokens, heads, head_dim), turned. The positions are those of a text: with M-RoPE the
    first three of a token are the same and the fourth is 0, as llama.cpp gives them."""
    ggml, q = _ggml(), parameters
    if any(q.sections):
        positions = np.concatenate([positions, positions, positions, np.zeros_like(positions)])
    ctx = ggml.ggml_init(_InitParams(1 << 20, None, True))
    backend = ggml.ggml_backend_dev_init(ggml.ggml_backend_dev_by_type(0), None)
    inputs = []

    def tensor(values: NDArray[Any], kind: int) -> Any:
        shape = (*values.shape[::-1], 1, 1, 1)[:4]
        made = ggml.ggml_new_tensor_4d(ctx, kind, *shape)
        inputs.append((made, np.ascontiguousarray(values)))
        return made

    a, at = tensor(x, F32), tensor(positions, I32)
    factors = tensor(np.asarray(q.factors, np.float32), F32) if q.factors else None
    numbers = q.freq_base, q.freq_scale, q.ext_factor, q.attn_factor, q.beta_fast, q.beta_slow
    if any(q.sections):
        sections = (ctypes.c_int * 4)(*q.sections)
        out = ggml.ggml_rope_multi(ctx, a, at, factors, q.n_dims, sections, q.mode, q.n_ctx_orig, *numbers)
    else:
        out = ggml.ggml_rope_ext(ctx, a, at, factors, q.n_dims, q.mode, q.n_ctx_orig, *numbers)
    if q.offset:
        ggml.ggml_rope_set_offset(out, q.offset)
    graph = ggml.ggml_new_graph(ctx)
    ggml.ggml_build_forward_expand(graph, out)
    buffer = ggml.ggml_backend_alloc_ctx_tensors(ctx, backend)
    for one, values in inputs:
        ggml.ggml_backend_tensor_set(one, values.ctypes.data, 0, values.nbytes)
    assert ggml.ggml_backend_graph_compute(backend, graph) == 0
    result = np.empty_like(x)
    ggml.ggml_backend_tensor_get(out, result.ctypes.data, 0, result.nbytes)
    ggml.ggml_backend_buffer_free(buffer)
    ggml.ggml_backend_free(backend)
    ggml.ggml_free(ctx)
    return result
