"""The attention kernel: switched on, switched off, and asked what it did.

llama.cpp adds every backend device of type ACCEL to a context when the context is created. So
``enable()`` must come before that; afterwards ``use()`` changes what the kernel computes, for comparisons.
The environment variable ``STRETCH_KERNEL=stock`` leaves llama.cpp as it is, ``STRETCH_KERNEL=device``
keeps the kernel out of ggml's CPU backend (``cpu_backend.h``).
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from typing import Any, Literal

from quantize.native.library import find, load

Kernel = Literal["stock", "own"]


@dataclass(frozen=True, slots=True)
class AttentionStatus:
    """Whether attention runs in the own kernel, and if not, why."""

    ok: bool
    reason: str
    """Empty if ``ok``; else one sentence for the user."""
    isa: str
    """Instruction set in use: portable, neon, avx2 or avx512; empty without the library."""
    apart: str = ""
    """Why it is a device of its own, which cuts the graph; empty where it computes inside the CPU backend."""

    @property
    def kernel(self) -> Kernel:
        """``own`` or ``stock``."""
        return "own" if self.ok else "stock"


@dataclass(frozen=True, slots=True)
class Counters:
    """What the device has computed in this process."""

    attention: int
    """Attentions (one per layer and micro-batch)."""
    set_rows: int
    """Writes to the cache."""


def expected() -> bool:
    """Whether ``enable`` will probably find the kernel usable. Loads nothing: for plans."""
    return os.environ.get("STRETCH_KERNEL") != "stock" and find() is not None


@functools.cache
def enable() -> AttentionStatus:
    """Register the kernel with llama.cpp. Call before a context is created; again is harmless.

    It takes the attention of caches in host memory when flash attention is on (``ENABLED``, not
    ``AUTO``: llama.cpp turns AUTO off when another device than the layer's computes it). Before that
    it compares itself with the stock kernel, and stays off if they differ.
    """
    library, native = load()
    if library is None:
        return AttentionStatus(False, native.reason, native.isa)
    if os.environ.get("STRETCH_KERNEL") == "stock":
        return AttentionStatus(
            False, "The attention kernel is off: STRETCH_KERNEL=stock is set in the environment.", native.isa
        )
    from quantize.llama import LIB

    _declare(library)
    names: list[str] = []
    while (name := library.st_device_symbols()[len(names)]) is not None:
        names.append(name.decode())
    missing = [name for name in names if not hasattr(LIB, name)]
    if missing:
        return AttentionStatus(
            False, f"The attention kernel is off: this build of llama.cpp has no {missing[0]}.", native.isa
        )
    symbols = (ctypes.c_void_p * len(names))(*(_address(LIB, name) for name in names))
    gomp = _address(LIB, "GOMP_parallel") if hasattr(LIB, "GOMP_parallel") else None
    problem = library.st_device_enable(symbols, gomp)
    if problem is not None:
        return AttentionStatus(False, problem.decode(), native.isa)
    return AttentionStatus(True, "", native.isa, _join(library, LIB))


def _join(library: Any, ggml: Any) -> str:
    """Let ggml's CPU backend call the kernel in its own threads. Why it does not; empty if it does."""
    if os.environ.get("STRETCH_KERNEL") == "device":
        return "STRETCH_KERNEL=device is set in the environment"
    names: list[str] = []
    while (name := library.st_cpu_symbols()[len(names)]) is not None:
        names.append(name.decode())
    addresses = (_address(ggml, name) if hasattr(ggml, name) else None for name in names)
    problem = library.st_cpu_enable((ctypes.c_void_p * len(names))(*addresses))
    return problem.decode() if problem is not None else ""


def use(kernel: Kernel) -> None:
    """Compute with ``kernel`` from now on; not while anything is computed. Make a new context after it."""
    if enable().ok:
        load()[0].st_device_switch(kernel == "own")


def in_use() -> Kernel:
    """The kernel that graphs which are built now use."""
    return "own" if enable().ok and load()[0].st_device_active() else "stock"


def counters() -> Counters:
    """What the device has computed so far; zeros if it is off."""
    if not enable().ok:
        return Counters(0, 0)
    counts = (ctypes.c_int64 * 2)()
    load()[0].st_device_count(counts)
    return Counters(*counts)


def _address(library: Any, name: str) -> int | None:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value


def _declare(library: Any) -> None:
    library.st_device_symbols.restype = ctypes.POINTER(ctypes.c_char_p)
    library.st_device_enable.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p]
    library.st_device_enable.restype = ctypes.c_char_p
    library.st_cpu_symbols.restype = ctypes.POINTER(ctypes.c_char_p)
    library.st_cpu_enable.argtypes = [ctypes.POINTER(ctypes.c_void_p)]
    library.st_cpu_enable.restype = ctypes.c_char_p
    library.st_device_active.restype = ctypes.c_bool
    library.st_device_switch.argtypes = [ctypes.c_bool]
    library.st_device_switch.restype = None
    library.st_device_count.argtypes = [ctypes.POINTER(ctypes.c_int64)]
    library.st_device_count.restype = None
