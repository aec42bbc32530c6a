"""What the engine's own graph says of rotary positions, layer by layer (rope_node.h)."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from quantize.native import attention
from quantize.native.library import load
from quantize.rope_parameters import RopeParameters

_NONE, _KNOWN = 0, 1

Recorded = Callable[[int], "RopeParameters | None"]
"""What a layer (its number in the model) does; None for a layer that no context showed."""

_one_at_a_time = threading.Lock()


class Params(ctypes.Structure):
    """``st_rope_params``."""

    _fields_ = (
        *(
            (name, ctypes.c_int32)
            for name in (
                "kind",
                "n_dims",
                "mode",
                "n_ctx_orig",
                "offset",
                "head_dim",
                "hadamard",
                "n_factors",
            )
        ),
        *(
            (name, ctypes.c_float)
            for name in (
                "freq_base",
                "freq_scale",
                "ext_factor",
                "attn_factor",
                "beta_fast",
                "beta_slow",
            )
        ),
        ("sections", ctypes.c_int32 * 4),
        ("factors", ctypes.c_void_p),
        ("positions", ctypes.c_void_p),
    )


@contextlib.contextmanager
def recording() -> Iterator[Recorded | None]:
    """What the contexts show that are created inside; None without the kernel's device.

    Whether the kernel is switched on (``attention.use``) makes no difference. Ask while the model is there:
    its frequency factors are read from its memory then.
    """
    if not attention.enable().ok:
        yield None
        return
    library = _library()
    with _one_at_a_time:
        library.st_rope_record()
        try:
            yield _recorded
        finally:
            library.st_rope_stop()


def _recorded(layer: int) -> RopeParameters | None:
    found = Params()
    if not _library().st_rope_recorded(layer, ctypes.byref(found)):
        return None
    if found.kind != _KNOWN:
        return RopeParameters(known=found.kind == _NONE)
    factors: tuple[float, ...] = ()
    name = ""
    if found.factors:
        values = np.empty(found.n_factors, np.float32)
        ggml = _ggml()
        ggml.ggml_backend_tensor_get(found.factors, values.ctypes.data, 0, values.nbytes)
        factors, name = tuple(values.tolist()), ggml.ggml_get_name(found.factors).decode()
    return RopeParameters(
        n_dims=found.n_dims,
        mode=found.mode,
        n_ctx_orig=found.n_ctx_orig,
        freq_base=found.freq_base,
        freq_scale=found.freq_scale,
        ext_factor=found.ext_factor,
        attn_factor=found.attn_factor,
        beta_fast=found.beta_fast,
        beta_slow=found.beta_slow,
        sections=tuple(found.sections),
        offset=found.offset,
        factors=factors,
        factors_name=name,
    )


@functools.cache
def _library() -> Any:
    library = load()[0]
    library.st_rope_record.argtypes = library.st_rope_stop.argtypes = ()
    library.st_rope_record.restype = library.st_rope_stop.restype = None
    library.st_rope_recorded.argtypes = (ctypes.c_int32, ctypes.c_void_p)
    library.st_rope_recorded.restype = ctypes.c_bool
    return library


@functools.cache
def _ggml() -> Any:
    from quantize.llama import LIB

    LIB.ggml_backend_tensor_get.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
    )
    LIB.ggml_backend_tensor_get.restype = None
    LIB.ggml_get_name.argtypes = (ctypes.c_void_p,)
    LIB.ggml_get_name.restype = ctypes.c_char_p
    return LIB
