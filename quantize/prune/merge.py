"""Two states of one conversation put together: the older part as it was, the newer as it is now."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from quantize.buffers import allocate
from quantize.errors import StateError
from quantize.state import CELL_SIZE, HEADER_SIZE, Rows, RowShape, SavedState, part_size, write_rows_header


def merged(before: SavedState, now: SavedState, position: int) -> NDArray[np.uint8]:
    """The cells of ``before`` below ``position`` and those of ``now`` from it on.

    Both hold K and V of every token in one part, in the same types.

    Raises:
        StateError: if they do not have the same shape.
    """
    parts = [s.parts[0] for s in (before, now) if s.n_cells]
    if not parts or len(before.parts) != 1 or len(now.parts) != 1:
        raise StateError("There is nothing to put together.")
    shapes = [[(r.type_id, r.row_size, r.n_columns) for r in (*p.k, *p.v)] for p in parts]
    if (
        before.centring != now.centring
        or any(s != shapes[0] for s in shapes)
        or any(p.cell_size != CELL_SIZE for p in parts)
    ):
        raise StateError("The cache from before the change has another shape than the present one.")
    chosen = [
        (before, np.flatnonzero(before.positions() < position) if before.n_cells else np.empty(0, np.int64)),
        (now, np.flatnonzero(now.positions() >= position) if now.n_cells else np.empty(0, np.int64)),
    ]
    chosen = [(state, cells) for state, cells in chosen if len(cells)]
    n = sum(len(cells) for _, cells in chosen)
    part = parts[0]
    sizes = [r.size // part.n_cells for r in (*part.k, *part.v)]
    shape = [RowShape(0, 1, size) for size in sizes]
    out = allocate(HEADER_SIZE + part_size(n, shape))
    out[:HEADER_SIZE] = before.data[:HEADER_SIZE]
    struct.pack_into("<II", out.data, HEADER_SIZE, 1, n)
    at = HEADER_SIZE + 8
    words = out[at : at + n * CELL_SIZE].view("<i4").reshape(n, 3)
    words[:, 0] = np.concatenate([state.positions()[cells] for state, cells in chosen])
    words[:, 1], words[:, 2] = 1, before.seq_id
    at += n * CELL_SIZE
    struct.pack_into("<II", out.data, at, part.v_trans, len(part.k))
    at += 8
    for index, (rows, size) in enumerate(zip((*part.k, *part.v), sizes, strict=True)):
        at += 12
        target = Rows(rows.type_id, rows.row_size, rows.n_columns, at, size * n)
        write_rows_header(out, target)
        pieces = []
        for state, cells in chosen:
            source = (*state.parts[0].k, *state.parts[0].v)[index]
            raw = state.rows(source)
            if rows.n_columns:
                pieces.append(raw.reshape(rows.n_columns, -1, rows.row_size)[:, cells])
            else:
                pieces.append(raw[cells])
        if size:
            out[at : at + size * n] = np.concatenate(pieces, axis=1 if rows.n_columns else 0).reshape(-1)
        at += size * n
    return out
