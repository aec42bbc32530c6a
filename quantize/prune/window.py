"""The exact window of the newest tokens through a prune.

A tail's row belongs to a row of the cache by its bytes. A prune makes rows out of the heads of several old
ones, so the exact values are put together the same way: what the window knew of a head is exact again, what
it did not is what the cache had.
"""

from __future__ import annotations

import numpy as np

from quantize import ggml
from quantize.centring import with_id
from quantize.native.tail import Tail
from quantize.native.window import Layout, Window, match
from quantize.prune.prune import Plan
from quantize.state import SavedState


def carry(
    window: Window, before: SavedState, after: SavedState, plan: Plan, layout: Layout, tail: Tail
) -> None:
    """Give ``tail`` the newest rows of a pruned cache, as exact as they were.

    Args:
        window: what the tail held before the prune.
        before: the state that was pruned.
        after: what ``write_pruned`` made of it; the context has loaded it and computed nothing yet.
    """
    n = min(tail.window, plan.n_kept)
    first = np.arange(min(tail.first, plan.n_kept - n))
    cells_at = np.concatenate([first, np.arange(plan.n_kept - n, plan.n_kept)])  # of those that it keeps
    centring = with_id(before.centring)
    for i, layer, side, heads in layout.sides(0):
        rows = window.get((layer, side))
        if rows is None or not heads.n_head_kv:
            continue
        part, new = before.parts[0], after.parts[0]
        source, target = (part.k[i], new.k[i]) if side == "k" else (part.v[i], new.v[i])
        newest = plan.chosen[i][:, cells_at]
        used, of_used = np.unique(newest, return_inverse=True)
        packed = np.ascontiguousarray(before.rows(source)[used])
        exact, row_of = match(packed, rows)
        values = np.empty((len(used), rows.values.shape[1]), np.float32)
        ggml.dequantize(ggml.row_format(source.type_id), packed, values)
        values[exact] = rows.values[row_of[exact]]
        if side == "k" and centring is not None:
            positions = before.positions().astype(np.int32)[used]
            centring.rows(0, i, values, positions, rotated=False, back=True)
        at = of_used.reshape(newest.shape).T
        by_head = values.reshape(len(used), heads.n_head_kv, -1)
        made = np.take_along_axis(by_head, at[:, :, None], axis=0).reshape(len(cells_at), -1)
        if side == "k" and centring is not None:  # now they lack the constant of another position
            made = np.ascontiguousarray(made)
            centring.rows(0, i, made, plan.positions[cells_at], rotated=False, back=False)
        known = np.flatnonzero(exact[at].any(axis=1))
        cells = cells_at[known]
        tail.fill(layer, side, cells.astype(np.int32), made[known], after.rows(target)[cells])
