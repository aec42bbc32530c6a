"""The saved state of one sequence, as ``llama_state_seq_get_data_ext`` writes it.

All numbers are little-endian::

    state  = u32 magic, i32 seq_id, part+
    part   = u32 n_stream, stream * n_stream             one cache; a sliding window makes two
    stream = u32 n_cells, and if there are any: cell * n_cells, u32 v_trans, u32 n_layer, k * n_layer, v * n_layer
    cell   = i32 position, u32 n_seq_id (1), [12 bytes], i32 seq_id      12 bytes with M-RoPE only
    k      = i32 type, u64 row_size, n_cells rows
    v      = the same; with v_trans (flash attention off): i32 type, u32 element size, u32 n_embd,
             then n_embd columns of n_cells elements

Nothing in it says which model it belongs to, whether rows are rotated or whether cells have the 12
bytes; the latter is found out by reading. Every field is checked against the bytes that are there
before it is used, and nothing is allocated from a count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAGIC = 0xAF143CD8
HEADER_SIZE = 8
CELL_SIZE = 12
CELL_EXT_SIZE = 12

MAX_LAYERS = 4096
MAX_STREAMS = 256  # LLAMA_MAX_SEQ


@dataclass(frozen=True, slots=True)
class Rows:
    """K or V of one layer: where its bytes are."""

    type_id: int
    """ggml's type id."""
    row_size: int
    """Bytes of one cell's row (of one element of a column if the part is transposed)."""
    n_columns: int
    """1, or the number of columns (``n_embd_v``) of a transposed V."""
    offset: int
    """Of the first byte after the header of these rows."""
    size: int
    """Bytes of all rows."""


@dataclass(frozen=True, slots=True)
class Part:
    """One cache of the state."""

    offset: int
    size: int
    n_stream: int
    stream: int
    """The stream that holds the cells (0 if none does)."""
    n_cells: int
    cells_offset: int
    cell_size: int
    """12 bytes, or 24 with the extension of M-RoPE models."""
    v_trans: bool
    k: tuple[Rows, ...]
    """One per layer; empty if there are no cells."""
    v: tuple[Rows, ...]


@dataclass(frozen=True, slots=True)
class SavedState:
    """A state that was read and found sound."""

    data: NDArray[np.uint8]
    seq_id: int
    parts: tuple[Part, ...]

    @property
    def n_cells(self) -> int:
        """Cells of the first cache: the tokens that the sequence holds."""
        return self.parts[0].n_cells
