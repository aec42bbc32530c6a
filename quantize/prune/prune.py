"""Prune a saved state: score, select, write. Layer by layer; the largest thing held is one layer as f32.

Usage, in the engine's process::

    plan = plan_prune(state, geometry, policy("keydiff"), Request(0.5))
    out = allocate(plan.size)
    write_pruned(state, geometry, plan, out)
    context.clear()
    context.load_state(out)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize.centring import with_id
from quantize.errors import EngineError, StateError
from quantize.geometry import Geometry
from quantize.prune.layer import Layer, gather_heads, moved_k, read_heads, turns, whole_k
from quantize.prune.observe import Observed
from quantize.prune.policy import Policy
from quantize.prune.selection import Request, agreed, cell_positions, choose
from quantize.rope import NO_ROPE, Rope
from quantize.rotation import hadamard, rotation_k, rotation_v
from quantize.state import CELL_SIZE, HEADER_SIZE, Rows, RowShape, SavedState, part_size, write_rows_header

Progress = Callable[[int, int], bool | None]
"""Called with (layers done, layers in all); False stops."""


@dataclass(frozen=True)
class Plan:
    """Which cells stay."""

    chosen: tuple[NDArray[np.int64], ...]
    """Per layer the cells of each KV head, shape (n_head_kv, n_kept), ascending."""
    positions: NDArray[np.int32]
    """Of the cells that are written, shape (n_kept,)."""
    whole_from: int
    """The position from which on every token is there, in all layers and heads."""
    share: NDArray[np.float32]
    """Of every cell of the old state the share of layers and heads that keep it."""
    size: int
    """Bytes of the pruned state."""

    @property
    def n_kept(self) -> int:
        """Cells that stay."""
        return len(self.positions)


def obstacle(state: SavedState) -> str:
    """Why this state cannot be pruned, in one sentence; empty if it can."""
    if state.recurrent_size or not state.parts:
        kind = "is partly recurrent" if state.parts else "is recurrent"
        return f"This model's memory {kind}: it has no cells that could be left out."
    if len(state.parts) > 1:
        return (
            "This model has a sliding window: most of its layers forget old tokens by themselves, and the "
            "others cannot be pruned apart from them."
        )
    part = state.parts[0]
    if part.n_cells and not part.v:
        return "This model keeps K without V (latent attention): its cells have no heads to choose from."
    if part.cell_size != CELL_SIZE or part.n_stream != 1:
        return "The cells of this model have positions in two dimensions, which cannot be pruned."
    return ""


def check(state: SavedState, geometry: Geometry) -> None:
    """Refuse a state that cannot be pruned.

    Raises:
        StateError: with the reason.
    """
    reason = obstacle(state)
    if reason:
        raise StateError(reason)
    part = state.parts[0]
    if part.n_cells and len(part.k) != len(geometry.parts[0]):
        raise StateError(
            f"The state has {len(part.k)} layers and the model {len(geometry.parts[0])}: it belongs to "
            "another model."
        )


def read_layer(
    state: SavedState, geometry: Geometry, index: int, rope: Rope = NO_ROPE, observed: Observed | None = None
) -> Layer:
    """One layer as a policy sees it."""
    part, heads = state.parts[0], geometry.parts[0][index]
    values = []
    turn_k = 0
    for rows, side, rotation in ((part.k, "k", rotation_k), (part.v, "v", rotation_v)):
        name = f"head_dim_{side}"
        dims = {getattr(h, name) for h in geometry.parts[0]}
        quantized = _quantized(rows[index])
        turn = turns(heads, getattr(heads, name), rotation(quantized, dims, getattr(geometry.first, name)))
        turn_k = turn if side == "k" else turn_k
        if side == "k" and state.centring:
            values.append(whole_k(state, rows[index], index, heads.head_dim_k, heads.n_head_kv))
        else:
            values.append(read_heads(state, rows[index], getattr(heads, name), heads.n_head_kv, turn))
    layer = Layer(values[0], values[1], state.positions().astype(np.int32), rope)
    if observed is not None:
        layer.seen = observed.seen[index]
        layer.queries = observed.queries[index]
        if turn_k and layer.queries.size:
            turned = np.ascontiguousarray(layer.queries)
            hadamard(turned.reshape(-1), turn_k)
            layer.queries = turned
        layer.query_positions = observed.query_positions[: len(layer.queries)]
    return layer


def plan_prune(
    state: SavedState,
    geometry: Geometry,
    policy: Policy,
    request: Request,
    *,
    ropes: Sequence[Rope] = (),
    observed: Observed | None = None,
    on_progress: Progress | None = None,
) -> Plan:
    """Choose the cells.

    Args:
        ropes: how each layer turns its heads, for policies that look at keys without positions; () if no
            layer does.
        observed: the attention that was seen (``observe``); needed by policies that ask for it.

    Raises:
        StateError: if this state cannot be pruned.
        EngineError: if ``on_progress`` stopped it.
    """
    check(state, geometry)
    part, layers = state.parts[0], geometry.parts[0]
    positions = state.positions().astype(np.int32)
    n = part.n_cells
    if n == 0:
        none = np.empty(0, np.int32)
        return Plan((), none, 0, np.empty(0, np.float32), part_size(0, ()) + HEADER_SIZE)
    mask = request.mask(positions)
    n_kept = request.n_kept(mask)
    everything = n_kept == n
    chosen: list[NDArray[np.int64]] = []
    total = np.zeros(n)
    for i, heads in enumerate(layers):
        if everything or heads.n_head_kv == 0:
            chosen.append(np.broadcast_to(np.arange(n_kept), (heads.n_head_kv, n_kept)))
        else:
            rope = ropes[i] if ropes else NO_ROPE
            scores = policy.score(read_layer(state, geometry, i, rope, observed))
            if request.per_head:
                chosen.append(choose(scores, positions, request))
            else:
                total += agreed(scores, policy.common_scale)
        if on_progress is not None and on_progress(i + 1, len(layers)) is False:
            raise EngineError("The pruning was stopped; the cache is as it was.")
    if not request.per_head and not everything:
        one = choose(total[None].astype(np.float32), positions, request)[0]
        chosen = [np.broadcast_to(one, (h.n_head_kv, n_kept)) for h in layers]
        written = positions[one]
    else:
        written = cell_positions(positions, request, n_kept)
    counts = np.zeros(n, np.int64)
    n_heads = 0
    for kept in chosen:
        np.add.at(counts, kept.reshape(-1), 1)
        n_heads += len(kept)
    share = (counts / max(1, n_heads)).astype(np.float32)
    whole_from = 0 if everything else int(positions[n - request.n_last(n)])
    size = HEADER_SIZE + part_size(n_kept, [_shape(r, n) for r in (*part.k, *part.v)])
    return Plan(tuple(chosen), written, whole_from, share, size)


def write_pruned(state: SavedState, geometry: Geometry, plan: Plan, out: NDArray[np.uint8]) -> None:
    """Write the state with only the chosen cells.

    Args:
        out: exactly ``plan.size`` bytes, writeable.

    Raises:
        ValueError: if ``out`` has another size.
    """
    if out.size != plan.size:
        raise ValueError(f"the pruned state takes {plan.size} bytes, the buffer has {out.size}")
    part, n = state.parts[0], plan.n_kept
    centring = with_id(state.centring)
    out[:HEADER_SIZE] = state.data[:HEADER_SIZE]  # the pruned rows lack what these lack
    struct.pack_into("<II", out.data, HEADER_SIZE, 1, n)
    if n == 0:
        return
    at = HEADER_SIZE + 8
    cells = out[at : at + n * CELL_SIZE].view("<i4").reshape(n, 3)
    cells[:, 0], cells[:, 1], cells[:, 2] = plan.positions, 1, state.seq_id
    at += n * CELL_SIZE
    struct.pack_into("<II", out.data, at, part.v_trans, len(part.k))
    at += 8
    for side, rows in (("k", part.k), ("v", part.v)):
        for index, source in enumerate(rows):
            heads = geometry.parts[0][index]
            at += 12
            size = source.size // part.n_cells * n
            write_rows_header(out, Rows(source.type_id, source.row_size, source.n_columns, at, size))
            if size and side == "k" and centring is not None:
                out[at : at + size] = moved_k(
                    state, source, index, heads, plan.chosen[index], plan.positions, centring
                )
            elif size:
                out[at : at + size] = gather_heads(
                    state, source, getattr(heads, f"head_dim_{side}"), heads.n_head_kv, plan.chosen[index]
                )
            at += size


def _shape(rows: Rows, n_cells: int) -> RowShape:
    return RowShape(rows.type_id, 1, rows.size // n_cells)


def _quantized(rows: Rows) -> bool:
    from quantize import ggml

    return ggml.row_format(rows.type_id).quantized
