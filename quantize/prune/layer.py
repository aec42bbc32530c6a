"""One layer of a saved state, head by head."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.centring import Centring, with_id
from quantize.geometry import LayerHeads
from quantize.native.attention_mass import Seen
from quantize.rope import NO_ROPE, Rope
from quantize.rotation import hadamard
from quantize.state import Rows, SavedState

Floats = NDArray[np.float32]


@dataclass
class Layer:
    """K and V of one layer, read when they are asked for, and the attention that was seen."""

    k: Floats
    """Shape (n_head_kv, n_cells, head_dim_k), with its positions in it and not otherwise turned."""
    v: Floats
    """Shape (n_head_kv, n_cells, head_dim_v)."""
    positions: NDArray[np.int32]
    """Of the cells, shape (n_cells,)."""
    rope: Rope = NO_ROPE
    seen: Seen | None = None
    """The attention that the cells got; None for a policy that asks for none."""
    queries: Floats = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    """Rows of Q of the observed tokens, shape (tokens, n_head, head_dim_k), turned as K is."""
    query_positions: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    @property
    def n_head_kv(self) -> int:
        """KV heads."""
        return len(self.k)

    @property
    def n_cells(self) -> int:
        """Cells."""
        return len(self.positions)

    @cached_property
    def k_plain(self) -> Floats:
        """K without its positions."""
        return self.rope.without_positions(self.k, self.positions)


def read_heads(state: SavedState, rows: Rows, head_dim: int, n_head: int, turn: int) -> Floats:
    """The values of K or V of one layer, shape (n_head, n_cells, head_dim), contiguous per head.

    Args:
        turn: size of the Hadamard blocks that the cache's rows were turned with, 0 for none.
    """
    fmt = ggml.row_format(rows.type_id)
    n_values = head_dim * n_head
    raw = state.rows(rows)
    if rows.n_columns:  # V without flash attention: (n_embd, n_cells) of elements
        cells = raw.reshape(rows.n_columns, -1, rows.row_size).swapaxes(0, 1)
        raw = np.ascontiguousarray(cells).reshape(len(cells), -1)
    aligned = np.ascontiguousarray(raw)
    if aligned.ctypes.data % 4:
        aligned = aligned.copy()
    values = np.empty((len(aligned), n_values), np.float32)
    if values.size:
        ggml.dequantize(fmt, aligned, values)
        if turn:
            hadamard(values.reshape(-1), turn)
    return np.ascontiguousarray(values.reshape(-1, n_head, head_dim).swapaxes(0, 1))


def whole_k(state: SavedState, rows: Rows, index: int, head_dim: int, n_head: int) -> Floats:
    """K of one layer of a state whose rows lack a constant: the constant put back, otherwise as
    ``read_heads``."""
    centring = with_id(state.centring)
    assert centring is not None
    stored = read_heads(state, rows, head_dim, n_head, 0)
    values = np.ascontiguousarray(stored.swapaxes(0, 1)).reshape(stored.shape[1], -1)
    centring.rows(0, index, values, state.positions().astype(np.int32), rotated=False, back=True)
    return np.ascontiguousarray(values.reshape(-1, n_head, head_dim).swapaxes(0, 1))


def moved_k(
    state: SavedState,
    rows: Rows,
    index: int,
    heads: LayerHeads,
    chosen: NDArray[np.int64],
    positions: NDArray[np.int32],
    centring: Centring,
) -> NDArray[np.uint8]:
    """``gather_heads`` for K that lacks a constant, in cells at other positions.

    The constant that a row lacks is that of its cell's position. A head's K that comes from another position
    is written anew without it; the others keep their bytes.

    Args:
        index: of the layer.
        positions: of the cells that are written.
    """
    n_head, head_dim = heads.n_head_kv, heads.head_dim_k
    kept = gather_heads(state, rows, head_dim, n_head, chosen)
    moved = state.positions()[chosen] != positions  # (heads, cells)
    if not moved.any():
        return kept
    k = np.take_along_axis(whole_k(state, rows, index, head_dim, n_head), chosen[:, :, None], axis=1)
    values = np.ascontiguousarray(k.swapaxes(0, 1)).reshape(len(positions), -1)
    centring.rows(0, index, values, positions, rotated=False, back=False)
    fmt = ggml.row_format(rows.type_id)
    out = np.empty(len(positions) * rows.row_size, np.uint8)
    ggml.quantize(fmt, values, out)
    if head_dim % fmt.block_size == 0:
        old, new = kept.reshape(len(positions), n_head, -1), out.reshape(len(positions), n_head, -1)
        new[~moved.T] = old[~moved.T]
    return out


def gather_heads(
    state: SavedState, rows: Rows, head_dim: int, n_head: int, chosen: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """The bytes of K or V of one layer with only the chosen cells of every head, as a state holds them.

    Bytes are copied where the heads begin with a block of the type; else the values are read and
    written again.

    Args:
        chosen: shape (n_head, n_kept), cells of each head.
    """
    fmt = ggml.row_format(rows.type_id)
    raw = state.rows(rows)
    if rows.n_columns:
        columns = raw.reshape(n_head, head_dim, -1, rows.row_size)
        return np.ascontiguousarray(np.take_along_axis(columns, chosen[:, None, :, None], axis=2)).reshape(-1)
    if head_dim % fmt.block_size == 0:
        cells = raw.reshape(len(raw), n_head, -1)
        return np.take_along_axis(cells, chosen.T[:, :, None], axis=0).reshape(-1)
    values = read_heads(state, rows, head_dim, n_head, 0)
    kept = np.take_along_axis(values, chosen[:, :, None], axis=1).swapaxes(0, 1)
    out = np.empty(chosen.shape[1] * rows.row_size, np.uint8)
    ggml.quantize(fmt, np.ascontiguousarray(kept), out)
    return out


def turns(heads: LayerHeads, head_dim: int, turn: int) -> int:
    """``turn`` where the row has blocks of that size at all."""
    return turn if turn and (head_dim * heads.n_head_kv) % turn == 0 else 0
