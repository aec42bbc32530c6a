"""Saved states made by hand, from the layout alone."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quantize.state import MAGIC

F32, F16 = 0, 1


def layer(type_id: int, row_size: int, n_cells: int, fill: int = 1) -> bytes:
    return struct.pack("<iQ", type_id, row_size) + bytes([fill]) * (row_size * n_cells)


def attention(
    n_cells: int,
    n_layer: int = 2,
    *,
    row_size: int = 128,
    type_id: int = F16,
    has_v: bool = True,
    ext: bytes = b"",
    seq: int = 0,
    positions: Sequence[int] | None = None,
    before: int = 0,
    after: int = 0,
) -> bytes:
    """One part; ``before`` and ``after`` count empty streams."""
    data = struct.pack("<I", 1 + before + after) + bytes(4 * before) + struct.pack("<I", n_cells)
    if n_cells:
        for p in positions or range(n_cells):
            data += struct.pack("<iI", p, 1) + ext + struct.pack("<i", seq)
        data += struct.pack("<II", 0, n_layer)
        data += b"".join(layer(type_id, row_size, n_cells) for _ in range(n_layer * (1 + has_v)))
    return data + bytes(4 * after)


def recurrent(n_cells: int = 1, n_layer: int = 2, position: int = 20) -> bytes:
    cells = struct.pack("<iI", position, 0) * n_cells
    return (
        struct.pack("<I", n_cells)
        + cells
        + struct.pack("<II", 0, n_layer)
        + b"".join(layer(F32, size, n_cells, 0) for size in (48,) * n_layer + (512,) * n_layer)
    )


def state(*parts: bytes, seq: int = 0) -> NDArray[np.uint8]:
    return np.frombuffer(struct.pack("<Ii", MAGIC, seq) + b"".join(parts), np.uint8)


def with_rows(
    n_cells: int,
    k: Sequence[NDArray[np.uint8]],
    v: Sequence[NDArray[np.uint8]],
    type_k: int,
    type_v: int,
    *,
    ext: bytes = b"",
) -> bytes:
    """One part with the given rows, each of shape (n_cells, row_size)."""
    data = struct.pack("<II", 1, n_cells)
    if not n_cells:
        return data
    data += b"".join(struct.pack("<iI", p, 1) + ext + bytes(4) for p in range(n_cells))
    data += struct.pack("<II", 0, len(k))
    for type_id, layers in ((type_k, k), (type_v, v)):
        for rows in layers:
            data += struct.pack("<iQ", type_id, rows.shape[1]) + rows.tobytes()
    return data
