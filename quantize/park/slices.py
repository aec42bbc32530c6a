"""A stretch of the cells of a saved state, seen as a state of its own. Nothing is copied."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quantize.state import Part, SavedState


def in_order(state: SavedState) -> bool:
    """Whether every part holds all tokens from the first one on, row after row: only then can a state be cut
    at a token."""
    parts = [p for p in state.parts if p.n_cells]
    return bool(parts) and all(
        not p.v_trans and np.array_equal(state.positions(i), np.arange(p.n_cells))
        for i, p in enumerate(state.parts)
    )


def cells_between(state: SavedState, first: int, last: int) -> SavedState:
    """The cells from row ``first`` to one before ``last`` of every part that has any.

    The result reads like any state; only ``data`` is still the whole.
    """
    return replace(state, parts=tuple(part_between(p, first, last) for p in state.parts))


def part_between(part: Part, first: int, last: int) -> Part:
    """The same of one part, whose rows lie one after the other (``v_trans`` is off)."""
    if not part.n_cells:
        return part
    if not 0 <= first <= last <= part.n_cells:
        raise ValueError(f"there are no cells {first} to {last} among {part.n_cells}")
    if first == last:
        return replace(part, n_cells=0, k=(), v=())
    k, v = (
        tuple(
            replace(r, offset=r.offset + first * r.row_size, size=(last - first) * r.row_size) for r in rows
        )
        for rows in (part.k, part.v)
    )
    offset = part.cells_offset + first * part.cell_size
    return replace(part, n_cells=last - first, cells_offset=offset, k=k, v=v)
