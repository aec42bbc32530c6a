"""Stretch's C library: the TurboQuant cache types and the attention kernel.

``stretch.h`` is where a reader of the C code starts. Importing this package loads nothing;
``status()`` and ``register_types()`` load llama.cpp and the library.
"""

from __future__ import annotations

import dataclasses
import functools

from quantize.cache_types import NATIVE_IDS
from quantize.errors import CacheTypeError
from quantize.native.library import NativeStatus, load

__all__ = ["NativeStatus", "register_types", "require_types", "status"]


def status() -> NativeStatus:
    """Whether the native library is in use, and if not, the sentence that says why."""
    return load()[1]


@functools.cache
def register_types() -> NativeStatus:
    """Make tq4, tq3 and tq2 known to ggml. Call before a context is created; again is harmless.

    If ggml's type tables are not the verified ones nothing is written, the stock types work as
    before, and the status says why.
    """
    library, found = load()
    if library is None:
        return found
    problem = library.st_register_types()
    if problem is None:
        return found
    return dataclasses.replace(
        found, ok=False, reason=f"{problem.decode()} tq4, tq3 and tq2 are not available."
    )


def require_types(*type_ids: int) -> None:
    """Register the native types if any of these ggml ids is one.

    Raises:
        CacheTypeError: if they cannot be registered; the message says why.
    """
    if NATIVE_IDS.isdisjoint(type_ids):
        return
    registered = register_types()
    if not registered.ok:
        raise CacheTypeError(registered.reason, "Choose a stock type, for example q4_0.")
