"""One attention by hand: the library's own entry point, ggml's kernel, and a reference in float64.

Arrays have the shapes that llama.cpp uses: Q is (stream, token, head, head_dim) in f32, K and V are
(stream, cell, kv head, head_dim) before they are packed into rows of a cache type, the mask is
(stream, token, cell) in f16 with 0 or -inf.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.centring import Centring
from quantize.native.library import load

F32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class _RowType(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int32),
        ("block", ctypes.c_int32),
        ("type_size", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("has_offset", ctypes.c_bool),
        ("q_max", ctypes.c_int8),
        ("to_f32", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("to_i8", ctypes.c_void_p),
        ("from_f32", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


_SIZES = ("q_token", "q_head", "q_stream", "k_cell", "k_head", "k_stream", "v_cell", "v_head", "v_stream")


class _Job(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in ("dk", "dv", "n_tokens", "n_cells", "n_head", "n_head_kv", "n_stream")
        ),
        *((name, ctypes.c_void_p) for name in ("type_k", "type_v", "q", "k", "v")),
        *((name, ctypes.c_size_t) for name in _SIZES),
        ("mask", ctypes.c_void_p),
        *((name, ctypes.c_size_t) for name in ("mask_token", "mask_head", "mask_stream")),
        ("mask_heads", ctypes.c_int32),
        ("mask_streams", ctypes.c_int32),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("sinks", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("exact_k", ctypes.c_void_p),
        ("exact_v", ctypes.c_void_p),
        ("exact_window", ctypes.c_int32),
        ("centre", ctypes.c_void_p),
        ("positions", ctypes.c_void_p),
        ("positions_stream", ctypes.c_size_t),
        ("lost", ctypes.c_void_p),
        ("mass", ctypes.c_void_p),
        ("mass_cells", ctypes.c_int32),
    )


class Memory(ctypes.Structure):
    """What an attention keeps for the next one; ``base`` is the caller's to free."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


def library() -> Any:
    """The native library, ready for attentions."""
    found, status = load()
    assert found is not None, status.reason
    found.st_row_type_find.restype = ctypes.POINTER(_RowType)
    found.st_row_type_find.argtypes = [ctypes.c_int32]
    found.st_attn_refuses.restype = ctypes.c_char_p
    found.st_attn_run.restype = ctypes.c_bool
    found.st_centring_find.restype = ctypes.c_void_p
    found.st_centring_find.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    return found


def pack(values: F32, type_id: int) -> Bytes:
    """``values`` (..., n) as rows (..., bytes) of a type, as the cache is written."""
    found = library().st_row_type_find(type_id).contents
    flat = np.ascontiguousarray(values, np.float32).reshape(-1, values.shape[-1])
    rows = np.zeros((len(flat), flat.shape[1] // found.block * found.type_size), np.uint8)
    for source, target in zip(flat, rows, strict=True):
        found.from_f32(source.ctypes.data, target.ctypes.data, flat.shape[1])
    return rows.reshape(*values.shape[:-1], -1)


def unpack(rows: Bytes, type_id: int) -> F32:
    """The values that rows of a type stand for."""
    found = library().st_row_type_find(type_id).contents
    n = rows.shape[-1] // found.type_size * found.block
    flat = np.ascontiguousarray(rows).reshape(-1, rows.shape[-1])
    values = np.zeros((len(flat), n), np.float32)
    for source, target in zip(flat, values, strict=True):
        found.to_f32(source.ctypes.data, target.ctypes.data, n)
    return values.reshape(*rows.shape[:-1], n)


@dataclass
class Attention:
    """The inputs of one attention."""

    q: F32
    k: Bytes
    v: Bytes
    type_k: int
    type_v: int
    mask: NDArray[np.float16] | None
    scale: float
    softcap: float = 0.0
    sinks: F32 | None = None
    centring: Centring | None = None
    """What K lacks: of one layer."""
    positions: NDArray[np.int32] | None = None
    """Of the cells, shape (stream, cell); with ``centring``."""
    lost: bool = False
    """Whether the last run saw a cell whose position is unknown (-1)."""

    @property
    def keys(self) -> F32:
        """K as values, whole."""
        stored = unpack(self.k, self.type_k)
        if self.centring is None:
            return stored
        assert self.positions is not None
        rows = np.ascontiguousarray(stored.reshape(-1, stored.shape[2] * stored.shape[3]))
        self.centring.rows(0, 0, rows, self.positions.reshape(-1), rotated=True, back=True)
        return rows.reshape(stored.shape)

    @property
    def values(self) -> F32:
        """V as values."""
        return unpack(self.v, self.type_v)

    def job(self) -> Any:
        """The C struct; the arrays that it points to live as long as it does."""
        lib = library()
        job = _Job()
        q = np.ascontiguousarray(self.q, np.float32)
        k, v = np.ascontiguousarray(self.k), np.ascontiguousarray(self.v)
        type_k, type_v = lib.st_row_type_find(self.type_k), lib.st_row_type_find(self.type_v)
        job.n_stream, job.n_tokens, job.n_head, job.dk = q.shape
        job.n_cells, job.n_head_kv = k.shape[1:3]
        job.dv = v.shape[-1] // type_v.contents.type_size * type_v.contents.block
        job.type_k, job.type_v = (ctypes.cast(t, ctypes.c_void_p) for t in (type_k, type_v))
        out = np.full((*q.shape[:3], job.dv), np.nan, np.float32)
        job.q, job.k, job.v, job.out = (x.ctypes.data for x in (q, k, v, out))
        job.q_stream, job.q_token, job.q_head = q.strides[:3]
        job.k_stream, job.k_cell, job.k_head = k.strides[:3]
        job.v_stream, job.v_cell, job.v_head = v.strides[:3]
        mask = None if self.mask is None else np.ascontiguousarray(self.mask)
        if mask is not None:
            job.mask = mask.ctypes.data
            job.mask_stream, job.mask_token = mask.strides[:2]
            job.mask_heads, job.mask_streams = 1, mask.shape[0]
        sinks = None if self.sinks is None else np.ascontiguousarray(self.sinks, np.float32)
        if sinks is not None:
            job.sinks = sinks.ctypes.data
        job.scale, job.softcap = self.scale, self.softcap
        lost, positions = ctypes.c_int(0), None
        if self.centring is not None:
            positions = np.ascontiguousarray(self.positions, np.int32)
            job.centre = lib.st_centring_find(self.centring._handle, 0)
            job.positions, job.positions_stream = positions.ctypes.data, positions.shape[1]
            job.lost = ctypes.addressof(lost)
        job.lost_flag = lost
        job.arrays = (q, k, v, mask, sinks, positions, out)
        return job

    def own(self, threads: int = 2) -> F32:
        """What the library's kernel computes, shape (stream, token, head, head_dim of V)."""
        lib, job, memory = library(), self.job(), Memory()
        refused = lib.st_attn_refuses(ctypes.byref(job))
        assert refused is None, refused
        assert lib.st_attn_run(ctypes.byref(job), threads, ctypes.byref(memory))
        free(memory.base)
        self.lost = job.lost_flag.value != 0
        out: F32 = job.arrays[-1]
        return out

    def stock(self, threads: int = 2) -> F32:
        """What ggml's CPU backend computes."""
        return _ggml_attention(self, threads)

    def as_f16(self) -> Attention:
        """The same values, stored as f16: what the stock kernel gets from an f16 cache."""
        k, v = (np.ascontiguousarray(x.astype(np.float16)).view(np.uint8) for x in (self.keys, self.values))
        return Attention(self.q, k, v, 1, 1, self.mask, self.scale, self.softcap, self.sinks)

    def reference(self) -> NDArray[np.float64]:
        """Softmax attention in float64; a row that sees nothing is zero, as in ggml."""
        group = self.q.shape[2] // self.k.shape[2]
        k, v = (np.repeat(x.astype(np.float64), group, axis=2) for x in (self.keys, self.values))
        s = np.einsum("sthd,snhd->shtn", self.q.astype(np.float64), k) * self.scale
        if self.softcap:
            s = self.softcap * np.tanh(s / self.softcap)
        if self.mask is not None:
            s = s + self.mask.astype(np.float64)[:, None]
        top = s.max(-1, keepdims=True)
        sinks = None if self.sinks is None else self.sinks.astype(np.float64)[None, :, None, None]
        if sinks is not None:
            top = np.maximum(top, sinks)
        top = np.where(np.isinf(top), 0.0, top)
        p = np.exp(s - top)
        total = p.sum(-1, keepdims=True) + (0.0 if sinks is None else np.exp(sinks - top))
        return np.einsum("shtn,snhd->sthd", p / np.where(total > 0, total, 1.0), v)


# ---------------------------------------------------------------- ggml's kernel


class _InitParams(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("memory", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def _function(name: str, result: Any, *arguments: Any) -> Any:
    f = ggml.LIB[name]  # not getattr: that one object would be shared with the other tests
    f.restype, f.argtypes = result, arguments
    return f


_P, _I, _N, _F = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float
free = ctypes.CDLL(None).free
free.argtypes = [_P]


def _ggml_attention(a: Attention, threads: int) -> F32:
    tensor = _function("ggml_new_tensor_4d", _P, _P, _I, _N, _N, _N, _N)
    permute = _function("ggml_permute", _P, _P, _P, _I, _I, _I, _I)
    data = _function("ggml_get_data", _P, _P)
    n_stream, n_tokens, n_head, dk = a.q.shape
    dv = a.values.shape[-1]
    cells = a.k.shape[1]
    room = (
        4 * a.q.size
        + a.k.size
        + a.v.size
        + 2 * n_stream * n_tokens * cells
        + 4 * n_stream * n_tokens * n_head * dv
    )
    memory = np.zeros(2 * room + 64 * (dk + dv) * 1024 + (1 << 22), np.uint8)
    context = _function("ggml_init", _P, _InitParams)(_InitParams(memory.size, memory.ctypes.data, False))

    def put(array: NDArray[Any], type_id: int, *shape: int) -> Any:
        t = tensor(context, type_id, *shape)
        whole = np.ascontiguousarray(array)
        ctypes.memmove(data(t), whole.ctypes.data, whole.nbytes)
        return t

    q = put(a.q.astype(np.float32), 0, dk, n_head, n_tokens, n_stream)
    k = put(a.k, a.type_k, dk, a.k.shape[2], cells, n_stream)
    v = put(a.v, a.type_v, dv, a.v.shape[2], cells, n_stream)
    mask = None if a.mask is None else put(a.mask, 1, cells, n_tokens, 1, n_stream)
    out = _function("ggml_flash_attn_ext", _P, _P, _P, _P, _P, _P, _F, _F, _F)(
        context, *(permute(context, x, 0, 2, 1, 3) for x in (q, k, v)), mask, a.scale, 0.0, a.softcap
    )
    if a.sinks is not None:
        _function("ggml_flash_attn_ext_add_sinks", None, _P, _P)(
            out, put(a.sinks.astype(np.float32), 0, n_head, 1, 1, 1)
        )
    graph = _function("ggml_new_graph", _P, _P)(context)
    _function("ggml_build_forward_expand", None, _P, _P)(graph, out)
    assert _function("ggml_graph_compute_with_ctx", _I, _P, _P, _I)(context, graph, threads) == 0
    result = np.zeros((n_stream, n_tokens, n_head, dv), np.float32)
    ctypes.memmove(result.ctypes.data, data(out), result.nbytes)
    _function("ggml_free", None, _P)(context)
    return result
