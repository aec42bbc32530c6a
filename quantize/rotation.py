"""The rotation that llama.cpp applies before it writes a quantized cache.

Outliers in K and V cost a block format its precision, so the graph multiplies Q and K (and V)
by an orthonormal Walsh-Hadamard matrix and turns the output back. A cache of f16, bf16 or f32 is
not rotated. Whoever changes the type of saved rows must therefore turn them when exactly one of
the two types is rotated; the matrix is its own inverse.

The rule is that of ``llama_kv_cache``'s constructor and ``build_input_k_rot``/``build_input_v_rot``.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from quantize.native import library

V_ROTATION = 64
"""Size of V's rotation: llama.cpp uses the smallest for V and the largest that fits for K."""


def rotation_disabled() -> bool:
    """Whether ``LLAMA_ATTN_ROT_DISABLE`` turns the rotation off (read as C's ``atoi`` does)."""
    number = re.match(r"\s*([+-]?\d+)", os.environ.get("LLAMA_ATTN_ROT_DISABLE", ""))
    return number is not None and int(number[1]) != 0


def rotation_k(quantized: bool, head_dims: Collection[int], first_head_dim: int) -> int:
    """Size of K's rotation in one cache, 0 if it is not rotated.

    Args:
        quantized: whether K's type is a block format.
        head_dims: head sizes of the layers of this cache (a model with a sliding window has two
            caches; each follows from its own layers). Caches with unequal heads are not rotated.
        first_head_dim: head size of the model's layer 0, on which llama.cpp's test is made.
    """
    if not _rotates(quantized, head_dims, first_head_dim):
        return 0
    head_dim = next(iter(head_dims))
    size = 64
    while head_dim % (size * 2) == 0:
        size *= 2
    return size


def rotation_v(quantized: bool, head_dims: Collection[int], first_head_dim: int) -> int:
    """Size of V's rotation in one cache, 0 if it is not rotated; arguments as for K."""
    return V_ROTATION if _rotates(quantized, head_dims, first_head_dim) else 0


def _rotates(quantized: bool, head_dims: Collection[int], first_head_dim: int) -> bool:
    return quantized and len(set(head_dims)) == 1 and first_head_dim % 64 == 0 and not rotation_disabled()


def hadamard(
    values: NDArray[np.float32],
    size: int,
    scratch_a: NDArray[np.float32] | None = None,
    scratch_b: NDArray[np.float32] | None = None,
) -> None:
    """Rotate ``values`` in place, every ``size`` consecutive values as one vector.

    The steps and their order are those of ggml's own transform (scale, then butterflies of
    length 1, 2, 4, ...), so the result is equal to it bit for bit. Stretch's native library does it
    where it is there, numpy where it is not.

    Args:
        values: contiguous, its size a multiple of ``size``.
        size: a power of two.
        scratch_a: room for as many values, to spare numpy an allocation.
        scratch_b: the same.
    """
    if values.size % size or not values.flags.c_contiguous or values.dtype != np.float32:
        raise ValueError(f"{values.size} values of {values.dtype} are no vectors of {size} float32")
    native = _native()
    if native is None:
        hadamard_numpy(values, size, scratch_a, scratch_b)
    else:
        native(values.ctypes.data, values.size, size)


def hadamard_numpy(
    values: NDArray[np.float32],
    size: int,
    scratch_a: NDArray[np.float32] | None = None,
    scratch_b: NDArray[np.float32] | None = None,
) -> None:
    """``hadamard`` in numpy: on the transposed vectors, where even the shortest butterfly runs over
    contiguous memory."""
    n = values.size // size
    source, target = (
        (np.empty(n * size, np.float32) if s is None else s[: n * size]).reshape(size, n)
        for s in (scratch_a, scratch_b)
    )
    vectors = values.reshape(n, size)
    np.multiply(vectors.T, np.float32(1) / np.sqrt(np.float32(size)), out=source)
    step = 1
    while step < size:
        pairs, sums = source.reshape(-1, 2, step * n), target.reshape(-1, 2, step * n)
        np.add(pairs[:, 0], pairs[:, 1], out=sums[:, 0])
        np.subtract(pairs[:, 0], pairs[:, 1], out=sums[:, 1])
        source, target = target, source
        step *= 2
    vectors[:] = source.T


@functools.cache
def _native() -> Callable[[int, int, int], None] | None:
    """``st_hadamard`` of the native library, or None."""
    function = getattr(library.load()[0], "st_hadamard", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32)
    function.restype = None
    found: Callable[[int, int, int], None] = function
    return found
