"""Ternary matrices of a checkpoint, read some rows at a time.

Packed, as transformers' BitNet integration stores them: four rows share one row of bytes; byte j of packed
row r holds in its bits 2i and 2i+1 the value of row ``i * n_packed + r``, plus one. One scale belongs to
the matrix. Otherwise the weights are ordinary numbers that happen to be zero or of one size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.convert.safetensors import Checkpoint
from quantize.errors import ModelFileError

CHUNK_VALUES = 1 << 22
"""Values that are held at once."""
BLOCK = 256
"""Values that share a scale in TQ1_0 and TQ2_0."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix of a checkpoint."""

    name: str
    n_rows: int
    n_cols: int
    packed: bool
    scale: float = 1.0
    """Size of the weights that are not zero, of a packed matrix."""


def find_matrix(checkpoint: Checkpoint, name: str, *, multiplied: bool) -> Matrix:
    """The matrix called ``name``.

    Args:
        multiplied: whether a stored scale is multiplied with the weights; otherwise they are divided by it.

    Raises:
        ModelFileError: if it is missing, or its scale is.
    """
    entry = checkpoint.entries.get(name)
    if entry is None or len(entry.shape) != 2:
        raise ModelFileError(f"The checkpoint has no matrix {name}.", "It may not be a llama model.")
    rows, cols = entry.shape
    if entry.dtype != "U8":
        return Matrix(name, rows, cols, False)
    scale = checkpoint.entries.get(name.removesuffix(".weight") + ".weight_scale")
    if scale is None or scale.n_elements != 1:
        raise ModelFileError(f"The checkpoint does not say the scale of {name}.")
    stored = float(checkpoint.rows(scale.name, 0, 1)[0, 0])
    if not np.isfinite(stored) or stored <= 0:
        raise ModelFileError(f"The scale of {name} makes no sense.")
    size = np.float32(stored) if multiplied else np.float32(1) / np.float32(stored)
    return Matrix(name, 4 * rows, cols, True, float(size))


def chunks(checkpoint: Checkpoint, matrix: Matrix, step: int = 1) -> Iterator[NDArray[np.float32]]:
    """The weights in order, some rows at a time: without the scale if the matrix is packed.

    Args:
        step: chunks are of a multiple of so many rows.

    Raises:
        ModelFileError: if a packed value is none of three.
    """
    n = max(CHUNK_VALUES // max(matrix.n_cols, 1) // step * step, step)
    for first in range(0, matrix.n_rows, n):
        count = min(n, matrix.n_rows - first)
        if matrix.packed:
            yield _unpack(checkpoint, matrix, first, count)
        else:
            yield checkpoint.rows(matrix.name, first, count)


def _unpack(checkpoint: Checkpoint, matrix: Matrix, first: int, count: int) -> NDArray[np.float32]:
    n_packed = matrix.n_rows // 4
    out = np.empty((count, matrix.n_cols), np.float32)
    done = 0
    while done < count:
        shift, row = divmod(first + done, n_packed)
        n = min(count - done, n_packed - row)
        codes = checkpoint.rows(matrix.name, row, n) >> np.uint8(2 * shift) & np.uint8(3)
        if (codes == 3).any():
            raise ModelFileError(f"{matrix.name} is not packed as BitNet weights are.")
        out[done : done + n] = codes.astype(np.float32) - 1
        done += n
    return out


def is_ternary(checkpoint: Checkpoint, matrix: Matrix) -> bool:
    """Whether all weights of each block are zero or of one size, exactly."""
    if matrix.packed:
        return True
    if matrix.n_cols % BLOCK:
        return False
    for rows in chunks(checkpoint, matrix):
        sizes = np.abs(rows).reshape(-1, BLOCK)
        largest = sizes.max(axis=1, keepdims=True)
        if not np.isfinite(largest).all() or not ((sizes == 0) | (sizes == largest)).all():
            return False
        if (largest.astype(np.float16).astype(np.float32) != largest).any():
            return False  # the scale of a block is kept in f16: it would be rounded
    return True


def permuted(rows: NDArray[Any], head_dim: int) -> NDArray[Any]:
    """Rows of Q or K in the order that llama.cpp's rotary embedding expects.

    Checkpoints rotate the first half of a head with the second one; llama.cpp's ``llama`` architecture
    rotates neighbours. ``rows`` are those of whole heads.
    """
    heads = rows.reshape(-1, 2, head_dim // 2, rows.shape[-1])
    return np.ascontiguousarray(heads.swapaxes(1, 2).reshape(rows.shape))
