"""The exact window of the newest tokens through a prune.

A tail's row belongs to a row of the cache by its bytes. A prune makes rows out of the heads of several old
ones, so the exact values are put together the same way: what the window knew of a head is exact again, what
it did not is what the cache had.
"""

from __future__ import annotations

import numpy as np

from quantize import ggml
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
    for i, layer, side, heads in layout.sides(0):
        rows = window.get((layer, side))
        if rows is None or not heads.n_head_kv:
            continue
        part, new = before.parts[0], after.parts[0]
        source, target = (part.k[i], new.k[i]) if side == "k" else (part.v[i], new.v[i])
        newest = plan.chosen[i][:, plan.n_kept - n :]
        used, of_used = np.unique(newest, return_inverse=True)
        packed = np.ascontiguousarray(before.rows(source)[used])
        exact, row_of = match(packed, rows)
        values = np.empty((len(used), rows.values.shape[1]), np.float32)
        ggml.dequantize(ggml.row_format(source.type_id), packed, values)
        values[exact] = rows.values[row_of[exact]]
        at = of_used.reshape(newest.shape).T
        by_head = values.reshape(len(used), heads.n_head_kv, -1)
        made = np.take_along_axis(by_head, at[:, :, None], axis=0).reshape(n, -1)
        cells = np.flatnonzero(exact[at].any(axis=1)) + plan.n_kept - n
        tail.fill(
            layer, side, cells.astype(np.int32), made[cells - plan.n_kept + n], after.rows(target)[cells]
        )
