"""The saved state of one sequence, as ``llama_state_seq_get_data_ext`` writes it.

All numbers are little-endian::

    state  = u32 magic, i32 seq_id, part+
    part   = u32 n_stream, stream * n_stream      one cache; a sliding window makes two
    stream = u32 n_cells, and if there are any:
             cell * n_cells, u32 v_trans, u32 n_layer, k * n_layer, v * n_layer
    cell   = i32 position, u32 n_seq_id (1), [12 bytes], i32 seq_id
    k      = i32 type, u64 row_size, n_cells rows
    v      = the same; with v_trans (flash attention off): i32 type, u32 element size, u32 n_embd,
             then n_embd columns of n_cells elements

A context whose K is stored without its constant (``quantize.centring``) saves the same with another header,
which llama.cpp refuses: u32 ``CENTRED`` + seq_id, u32 id of the centring.

The 12 bytes are there in models with two-dimensional positions (M-RoPE) or n-gram embeddings.
MLA models have no V. A recurrent model has, after the parts or instead of them::

    recurrent = u32 n_cells, (i32 position, u32 0) * n_cells, u32 0, u32 n_layer,
                (i32 type, u64 row_size, n_cells rows) *

Nothing says which of these a state is made of, or whether rows are rotated: the former is found
out by trying the readings that are possible. Every field is checked against the bytes that are
there before it is used, and nothing is allocated from a count.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quantize.cache_types import CACHE_TYPES, GgmlType
from quantize.errors import StateError

MAGIC = 0xAF143CD8
CENTRED = 0x53544300
HEADER_SIZE = 8
CELL_SIZE = 12
CELL_EXT_SIZE = 12

MAX_PARTS = 3
MAX_STREAMS = 256  # LLAMA_MAX_SEQ
MAX_LAYERS = 4096  # eight times LLAMA_MAX_LAYERS
_ROWS_HEADER = 12
_F32 = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """K or V of one layer: where its bytes are."""

    type_id: int
    """ggml's type id."""
    row_size: int
    """Bytes of one cell; of one element if the rows are stored as columns."""
    n_columns: int
    """0 for rows. A transposed V has ``n_embd_v`` columns, each with one element per cell."""
    offset: int
    """Of the first byte, after the header of these rows."""
    size: int
    """Bytes of all cells."""


@dataclass(frozen=True, slots=True)
class RowShape:
    """What K or V of one layer is stored as."""

    type_id: int
    n_values: int
    """Per cell."""
    row_size: int
    """Bytes per cell."""

    @property
    def element_size(self) -> int:
        """Bytes of one value; only for types without blocks."""
        return self.row_size // self.n_values if self.n_values else 0


@dataclass(frozen=True, slots=True)
class Part:
    """One cache of the state."""

    offset: int
    size: int
    n_stream: int
    n_cells: int
    cells_offset: int
    cell_size: int
    """12 bytes, or 24 with the extension."""
    v_trans: bool
    k: tuple[Rows, ...]
    """One per layer; none if there are no cells."""
    v: tuple[Rows, ...]
    """One per layer; none if there are no cells or if the model has no V."""


@dataclass(frozen=True, slots=True)
class SavedState:
    """A state that was read and found sound."""

    data: NDArray[np.uint8]
    seq_id: int
    parts: tuple[Part, ...]
    recurrent_size: int
    """Bytes of a recurrent model's part, which ends the state; 0 for none."""
    centring: int = 0
    """Id of what its rows of K were stored without (``quantize.centring.with_id``); 0 for whole rows."""

    @property
    def n_cells(self) -> int:
        """Cells of the first cache: the tokens that the sequence holds."""
        return self.parts[0].n_cells if self.parts else 0

    @property
    def obstacle(self) -> str:
        """Why this state cannot change its type, in one sentence; empty if it can."""
        if self.recurrent_size:
            kind = "is partly recurrent" if self.parts else "is recurrent"
            return f"This model's memory {kind}: its state is not made of K and V alone."
        if any(p.n_cells and not p.v for p in self.parts):
            return "This model keeps K without V (latent attention): its state cannot be read as K and V."
        return ""

    def positions(self, part: int = 0) -> NDArray[np.int32]:
        """Positions of the cells of a part, in the order of the rows; a view, shape (n_cells,)."""
        p = self.parts[part]
        return _words(self.data, p.cells_offset, p.n_cells, p.cell_size)[:, 0]

    def rows(self, rows: Rows) -> NDArray[np.uint8]:
        """The bytes of ``rows``: a view, shape (n_cells, row_size).

        A transposed V gives its columns instead: shape (n_columns, n_cells * element size).
        """
        block = self.data[rows.offset : rows.offset + rows.size]
        return block.reshape((rows.n_columns, -1) if rows.n_columns else (-1, max(rows.row_size, 1)))


def read_state(data: NDArray[np.uint8]) -> SavedState:
    """Read a saved state without copying it.

    Args:
        data: the whole state, one-dimensional and contiguous.

    Raises:
        StateError: if any field does not agree with the bytes that are there, or if the layout is
            none that is known.
    """
    data = np.ascontiguousarray(data, dtype=np.uint8).reshape(-1)
    reader = _Reader(data)
    seq_id, centring = _read_header(reader)
    if not 0 <= seq_id < MAX_STREAMS:
        raise StateError(f"The saved state belongs to sequence {seq_id}, which cannot be.")
    reader.seq_id = seq_id
    for parts, end in reader.all_parts(HEADER_SIZE, MAX_PARTS):
        if end == data.size:
            return SavedState(data, seq_id, parts, 0, centring)
    for parts, end in reader.all_parts(HEADER_SIZE, MAX_PARTS - 1, shortest=True):
        if reader.recurrent(end) == data.size:
            return SavedState(data, seq_id, parts, data.size - end, centring)
    raise StateError(
        "The saved state is damaged or of a layout that Stretch does not know.", reader.furthest_problem
    )


def _read_header(reader: _Reader) -> tuple[int, int]:
    """Sequence and id of the centring."""
    magic, word = reader.take(0, "<Ii")
    if magic == MAGIC:
        return word, 0
    if magic & ~0xFF == CENTRED and word:
        return magic & 0xFF, word & 0xFFFFFFFF
    raise StateError("This is not a saved state of a sequence: its first bytes are wrong.")


def write_header(data: NDArray[np.uint8], seq_id: int = 0, centring: int = 0) -> None:
    """Write the first ``HEADER_SIZE`` bytes of a state."""
    first, second = (CENTRED + seq_id, centring) if centring else (MAGIC, seq_id)
    struct.pack_into("<II", data.data, 0, first, second)


def centring_of(data: NDArray[np.uint8]) -> int:
    """The id in the header of a state; 0 where it has none or is no state."""
    if data.size < HEADER_SIZE:
        return 0
    magic, word = struct.unpack_from("<II", data.data, 0)
    return int(word) if magic & ~0xFF == CENTRED else 0


def write_part(
    state: SavedState,
    part: Part,
    out: NDArray[np.uint8],
    offset: int,
    k: Sequence[RowShape],
    v: Sequence[RowShape],
    *,
    v_trans: bool,
) -> Part:
    """Write everything of ``part`` but its rows and their headers into ``out``, for other rows.

    Those follow apart (``write_rows_header``), so that the memory of ``out`` is touched from its
    beginning to its end.

    Args:
        offset: where the part begins in ``out``, which has ``part_size`` bytes from there on.
        k: the new rows of K, one per layer.
        v: the new rows of V.
        v_trans: store V as columns.

    Returns:
        The part as it stands in ``out``: where the rows have to be written.
    """
    before = part.cells_offset + part.n_cells * part.cell_size - part.offset
    out[offset : offset + before] = state.data[part.offset : part.offset + before]
    if part.n_cells == 0:
        return replace(part, offset=offset, cells_offset=offset + before)
    position = offset + before
    struct.pack_into("<II", out.data, position, v_trans, len(k))
    position += 8
    placed: list[Rows] = []
    for i, shape in enumerate((*k, *v)):
        columns = i >= len(k) and v_trans
        row_size = shape.element_size if columns else shape.row_size
        n_columns = shape.n_values if columns else 0
        position += _ROWS_HEADER
        size = shape.row_size * part.n_cells
        placed.append(Rows(shape.type_id, row_size, n_columns, position, size))
        position += size
    empty_streams = part.n_stream - (part.cells_offset - part.offset) // 4 + 1
    out[position : position + 4 * empty_streams] = 0
    position += 4 * empty_streams
    return Part(
        offset,
        position - offset,
        part.n_stream,
        part.n_cells,
        offset + part.cells_offset - part.offset,
        part.cell_size,
        v_trans,
        tuple(placed[: len(k)]),
        tuple(placed[len(k) :]),
    )


def write_rows_header(out: NDArray[np.uint8], rows: Rows) -> None:
    """Write what stands before ``rows`` in ``out``."""
    header = out[rows.offset - _ROWS_HEADER : rows.offset].data
    if rows.n_columns:
        struct.pack_into("<iII", header, 0, rows.type_id, rows.row_size, rows.n_columns)
    else:
        struct.pack_into("<iQ", header, 0, rows.type_id, rows.row_size)


def part_size(
    n_cells: int, rows: Iterable[RowShape], *, n_stream: int = 1, cell_size: int = CELL_SIZE
) -> int:
    """Bytes of a part with these rows (K and V of every layer)."""
    size = 4 + 4 * n_stream
    if n_cells:
        size += 8 + n_cells * cell_size + sum(_ROWS_HEADER + n_cells * r.row_size for r in rows)
    return size


class _Reader:
    """Tries the readings that are possible from an offset on."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data = data
        self.seq_id = 0
        self.furthest = -1
        self.furthest_problem = ""

    def fail(self, offset: int, problem: str) -> StateError:
        if offset > self.furthest:
            self.furthest, self.furthest_problem = offset, f"At byte {offset}: {problem}."
        return StateError(problem)

    def take(self, offset: int, layout: str) -> tuple[int, ...]:
        """The numbers at ``offset``."""
        if offset + struct.calcsize(layout) > self.data.size:
            raise self.fail(offset, "the state ends too early")
        return struct.unpack_from(layout, self.data.data, offset)

    def all_parts(
        self, offset: int, most: int, *, shortest: bool = False
    ) -> Iterator[tuple[tuple[Part, ...], int]]:
        """Every way to read up to ``most`` parts from ``offset``, each with the offset after them.

        With ``shortest`` also the readings that leave something behind, none at all included.
        """
        if shortest:
            yield (), offset
        if most == 0:
            return
        for part in self.parts_at(offset):
            end = part.offset + part.size
            if not shortest:
                yield (part,), end
            if end < self.data.size:
                for more, last in self.all_parts(end, most - 1, shortest=shortest):
                    yield (part, *more), last

    def parts_at(self, offset: int) -> Iterator[Part]:
        """The readings of one part: plain cells or long ones, with V or without."""
        for cell_size in (CELL_SIZE, CELL_SIZE + CELL_EXT_SIZE):
            for has_v in (True, False):
                try:
                    part = self.part(offset, cell_size, has_v)
                except StateError:
                    continue
                yield part
                if part.n_cells == 0:  # the other readings are the same
                    return

    def part(self, offset: int, cell_size: int, has_v: bool) -> Part:
        start = offset
        (n_stream,) = self.take(offset, "<I")
        if not 1 <= n_stream <= MAX_STREAMS:
            raise self.fail(offset, f"{n_stream} streams")
        offset += 4
        found: Part | None = None
        for _ in range(n_stream):
            (n_cells,) = self.take(offset, "<I")
            offset += 4
            if n_cells == 0:
                continue
            if found is not None:
                raise self.fail(offset - 4, "one sequence in two streams")
            found = self.stream(offset, n_cells, cell_size, has_v)
            offset = found.offset + found.size
        if found is None:
            return Part(start, offset - start, n_stream, 0, offset, cell_size, False, (), ())
        return replace(found, offset=start, size=offset - start, n_stream=n_stream)

    def stream(self, start: int, n_cells: int, cell_size: int, has_v: bool) -> Part:
        offset = start
        if n_cells * cell_size > self.data.size - offset:
            raise self.fail(offset, f"{n_cells} cells do not fit in the rest")
        cells = _words(self.data, offset, n_cells, cell_size)
        if (cells[:, 1] != 1).any() or (cells[:, -1] != self.seq_id).any() or (cells[:, 0] < 0).any():
            raise self.fail(offset, "cells that are not of this sequence")
        offset += n_cells * cell_size
        v_trans, n_layer = self.take(offset, "<II")
        if v_trans > 1:
            raise self.fail(offset, f"an orientation of V of {v_trans}")
        if n_layer > MAX_LAYERS:
            raise self.fail(offset, f"{n_layer} layers")
        offset += 8
        k, offset = self.layers(offset, n_layer, n_cells, transposed=False)
        v: tuple[Rows, ...] = ()
        if has_v:
            v, offset = self.layers(offset, n_layer, n_cells, transposed=bool(v_trans))
        return Part(start, offset - start, 1, n_cells, start, cell_size, bool(v_trans), k, v)

    def layers(
        self, offset: int, n_layer: int, n_cells: int, *, transposed: bool
    ) -> tuple[tuple[Rows, ...], int]:
        found: list[Rows] = []
        for _ in range(n_layer):
            if transposed:
                type_id, row_size, n_columns = self.take(offset, "<iII")
                size = row_size * n_columns * n_cells
            else:
                type_id, row_size = self.take(offset, "<iQ")
                n_columns, size = 0, row_size * n_cells
            known = _TYPES.get(type_id)
            if known is None or (found and found[0].type_id != type_id):
                raise self.fail(offset, f"a layer of type {type_id}")
            if row_size % known.type_size or (transposed and row_size != known.type_size):
                raise self.fail(offset, f"rows of {row_size} bytes of type {type_id}")
            offset += _ROWS_HEADER
            if size > self.data.size - offset:
                raise self.fail(offset, f"{n_cells} rows of {row_size} bytes do not fit in the rest")
            found.append(Rows(type_id, row_size, n_columns, offset, size))
            offset += size
        return tuple(found), offset

    def recurrent(self, offset: int) -> int:
        """Where the recurrent part that begins at ``offset`` ends, 0 if there is none."""
        try:
            (n_cells,) = self.take(offset, "<I")
            offset += 4
            if not 1 <= n_cells <= MAX_STREAMS or n_cells * 8 > self.data.size - offset:
                return 0
            cells = _words(self.data, offset, n_cells, 8)
            if (cells[:, 0] < 0).any() or cells[:, 1].any():
                return 0
            offset += n_cells * 8
            transposed, n_layer = self.take(offset, "<II")
            if transposed or not 1 <= n_layer <= MAX_LAYERS:
                return 0
            offset += 8
            for _ in range(2 * n_layer):
                if offset == self.data.size:
                    break
                type_id, row_size = self.take(offset, "<iQ")
                offset += _ROWS_HEADER
                if type_id != _F32 or row_size * n_cells > self.data.size - offset:
                    return 0
                offset += row_size * n_cells
        except StateError:
            return 0
        return offset


def _words(data: NDArray[np.uint8], offset: int, n: int, size: int) -> NDArray[np.int32]:
    """``n`` records of ``size`` bytes as signed 32-bit words: a view, shape (n, size / 4)."""
    return data[offset : offset + n * size].view("<i4").reshape(n, size // 4)


_TYPES: dict[int, GgmlType] = {v.id: v for t in CACHE_TYPES.values() for v in t.variants}
