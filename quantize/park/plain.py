"""The plain values of a cache: read from a saved state of any type, written into one of any type.

Plain means float32, without llama.cpp's Hadamard rotation and, for K, without its position. A layer's K or
V is read and written a stretch of cells at a time, so that nothing here ever holds a whole cache.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.centring import Centring, with_id
from quantize.errors import CacheTypeError, StateError
from quantize.geometry import Geometry, LayerHeads
from quantize.park.slices import part_between
from quantize.rope import Rope, Ropes
from quantize.rotation import hadamard, rotation_k, rotation_v
from quantize.state import (
    CELL_SIZE,
    HEADER_SIZE,
    Part,
    Rows,
    RowShape,
    SavedState,
    part_size,
    read_state,
    write_header,
    write_part,
    write_rows_header,
)

Side = Literal["k", "v"]
SIDES: tuple[Side, Side] = ("k", "v")
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a model's caches look like: all that is needed to read and to write them."""

    geometry: Geometry
    ropes: Ropes
    """How each layer of each part turns K."""

    def heads(self, part: int, layer: int) -> LayerHeads:
        """The KV heads of a layer."""
        return self.geometry.parts[part][layer]

    def rope_of(self, part: int, layer: int) -> Rope:
        """How a layer turns its heads."""
        return self.ropes[part][layer]

    def width(self, part: int, layer: int, side: Side) -> int:
        """Values of one row."""
        heads = self.heads(part, layer)
        return heads.n_embd_k if side == "k" else heads.n_embd_v

    def rotation(self, part: int, side: Side, fmt: ggml.RowFormat) -> int:
        """Size of the Hadamard blocks that llama.cpp applies to rows of this type, 0 for none."""
        layers, first = self.geometry.parts[part], self.geometry.first
        if side == "k":
            return rotation_k(fmt.quantized, {h.head_dim_k for h in layers}, first.head_dim_k)
        return rotation_v(fmt.quantized, {h.head_dim_v for h in layers}, first.head_dim_v)

    def unpack(
        self,
        data: NDArray[np.uint8],
        fmt: ggml.RowFormat,
        part: int,
        side: Side,
        width: int,
        *,
        turned_back: bool = True,
    ) -> Floats:
        """Rows of bytes as values, shape (rows, width), without rotation if it is to be ``turned_back``."""
        data = np.ascontiguousarray(data).reshape(-1)
        if data.ctypes.data % 4:
            data = data.copy()
        values = np.empty((data.size // fmt.row_size(width), width), np.float32)
        ggml.dequantize(fmt, data, values)
        if turned_back and (turn := self.rotation(part, side, fmt)):
            hadamard(values.reshape(-1), turn)
        return values

    def pack(
        self, values: Floats, fmt: ggml.RowFormat, part: int, side: Side, *, turned: bool = False
    ) -> NDArray[np.uint8]:
        """The way back, shape (rows, row size). ``values`` may be overwritten; they have their rotation
        already if they are ``turned``."""
        values = np.ascontiguousarray(values, np.float32)
        if not turned and (turn := self.rotation(part, side, fmt)):
            hadamard(values.reshape(-1), turn)
        out = np.empty((len(values), fmt.row_size(values.shape[1])), np.uint8)
        ggml.quantize(fmt, values, out)
        return out


class Source:
    """A saved state to be read."""

    def __init__(self, state: SavedState, frame: Frame) -> None:
        """
        Raises:
            StateError: if it cannot be parked, or is not of a model of this shape.
        """
        if state.obstacle:
            raise StateError(state.obstacle)
        if len(state.parts) != len(frame.geometry.parts):
            raise StateError("The state has another number of caches than the model.")
        for part, layers in zip(state.parts, frame.geometry.parts, strict=True):
            if part.n_cells and (len(part.k) != len(layers) or len(part.v) != len(layers)):
                raise StateError("The state has another number of layers than the model.")
            if part.v_trans:
                raise StateError("Without flash attention a conversation cannot be parked.")
            if part.cell_size != CELL_SIZE:
                raise StateError("This model's positions have more than one dimension.")
        self.state = state
        self.frame = frame
        self._lacks = with_id(state.centring)

    def n_cells(self, part: int) -> int:
        """Tokens that a part holds."""
        return self.state.parts[part].n_cells

    def positions(self, part: int) -> NDArray[np.int32]:
        """Of its cells."""
        return self.state.positions(part) if self.n_cells(part) else np.empty(0, np.int32)

    def rows(self, part: int, layer: int, side: Side) -> Rows:
        """Where the bytes of a layer are."""
        p = self.state.parts[part]
        return (p.k if side == "k" else p.v)[layer]

    def raw(self, part: int, layer: int, side: Side, start: int, end: int) -> NDArray[np.uint8]:
        """The bytes of cells ``start`` to ``end``, shape (cells, row size); a view."""
        if not self.n_cells(part):
            return np.empty((0, 0), np.uint8)
        return self.state.rows(self.rows(part, layer, side))[start:end]

    def turned(self, part: int, layer: int, side: Side, start: int, end: int) -> Floats:
        """Values without rotation, K with its position. Shape (cells, width)."""
        if not self.n_cells(part):
            return np.empty((0, self.frame.width(part, layer, side)), np.float32)
        fmt = ggml.row_format(self.rows(part, layer, side).type_id)
        raw = self.raw(part, layer, side, start, end)
        width = self.frame.width(part, layer, side)
        if side == "v" or self._lacks is None:
            return self.frame.unpack(raw, fmt, part, side, width)
        values = self.frame.unpack(raw, fmt, part, side, width, turned_back=False)
        at = self.positions(part)[start:end]
        self._lacks.rows(part, layer, values, at, rotated=False, back=True)
        return values

    def plain(self, part: int, layer: int, side: Side, start: int, end: int) -> Floats:
        """Plain values of cells ``start`` to ``end``, shape (cells, width)."""
        values = self.turned(part, layer, side, start, end)
        if side == "k":
            positions = self.positions(part)[start:end]
            self.frame.rope_of(part, layer).turn(values, positions, self.frame.heads(part, layer), back=True)
        return values


class Target:
    """A saved state that is being written, in the types of the context that will load it."""

    def __init__(
        self,
        frame: Frame,
        positions: Sequence[NDArray[np.int32]],
        type_k: int,
        type_v: int,
        centring: Centring | None = None,
    ) -> None:
        """
        Args:
            positions: of the cells of each part.
            type_k: ggml type id of K.
            type_v: ggml type id of V.
            centring: what K of that context lacks.

        Raises:
            CacheTypeError: if a type's blocks do not divide a row.
        """
        self.frame = frame
        self._centring = centring
        self._positions = list(positions)
        self._formats = {"k": ggml.row_format(type_k), "v": ggml.row_format(type_v)}
        self._shapes = [
            tuple([self._shape(p, layer, side) for layer in range(len(layers))] for side in SIDES)
            for p, layers in enumerate(frame.geometry.parts)
        ]
        self._parts: list[Part] = []
        self.data = np.empty(0, np.uint8)

    def _shape(self, part: int, layer: int, side: Side) -> RowShape:
        fmt, width = self._formats[side], self.frame.width(part, layer, side)
        return RowShape(fmt.id, width, fmt.row_size(width))

    @property
    def size(self) -> int:
        """Bytes of the whole state."""
        return HEADER_SIZE + sum(
            part_size(len(at), (*k, *v)) for at, (k, v) in zip(self._positions, self._shapes, strict=True)
        )

    def begin(self, data: NDArray[np.uint8]) -> None:
        """Write into ``data``, which has ``size`` bytes."""
        if data.size != self.size:
            raise ValueError(f"the state takes {self.size} bytes, the buffer has {data.size}")
        self.data = data
        write_header(data, 0, self._centring.id if self._centring is not None else 0)
        offset = HEADER_SIZE
        for at, (k, v) in zip(self._positions, self._shapes, strict=True):
            head = np.zeros(8 + CELL_SIZE * len(at), np.uint8)
            struct.pack_into("<II", head.data, 0, 1, len(at))
            cells = head[8:].view(np.int32).reshape(-1, 3)
            cells[:, 0], cells[:, 1] = at, 1
            described = Part(0, head.size, 1, len(at), 8, CELL_SIZE, False, (), ())
            placed = write_part(SavedState(head, 0, (), 0), described, data, offset, k, v, v_trans=False)
            for rows in (*placed.k, *placed.v):
                write_rows_header(data, rows)
            self._parts.append(placed)
            offset += placed.size

    def section(self, first: Sequence[int], last: Sequence[int]) -> Target:
        """The cells from ``first`` to one before ``last`` of each part, to be written as if they were all."""
        part = copy.copy(self)
        between = list(zip(first, last, strict=True))
        part._positions = [at[a:b] for at, (a, b) in zip(self._positions, between, strict=True)]
        part._parts = [part_between(p, a, b) for p, (a, b) in zip(self._parts, between, strict=True)]
        return part

    def _rows(self, part: int, layer: int, side: Side, start: int, end: int) -> NDArray[np.uint8]:
        p = self._parts[part]
        if not p.n_cells:
            return np.empty((0, self._shapes[part][side == "v"][layer].row_size), np.uint8)
        rows = (p.k if side == "k" else p.v)[layer]
        if not 0 <= start <= end <= p.n_cells:
            raise StateError("The parked conversation names cells that it does not have.")
        at = rows.offset + start * rows.row_size
        return self.data[at : rows.offset + end * rows.row_size].reshape(end - start, rows.row_size)

    def put(self, part: int, layer: int, side: Side, start: int, values: Floats) -> None:
        """Write plain values of the cells from ``start`` on. They may be overwritten."""
        values = np.ascontiguousarray(values, np.float32)
        if side == "k":
            positions = self._positions[part][start : start + len(values)]
            self.frame.rope_of(part, layer).turn(values, positions, self.frame.heads(part, layer), back=False)
        self.put_turned(part, layer, side, start, values)

    def put_turned(self, part: int, layer: int, side: Side, start: int, values: Floats) -> None:
        """The same for K with its position."""
        out = self._rows(part, layer, side, start, start + len(values))
        centring = self._centring if side == "k" else None
        if centring is not None:
            values = np.ascontiguousarray(values, np.float32)
            at = self._positions[part][start : start + len(values)]
            centring.rows(part, layer, values, at, rotated=False, back=False)
        fmt = self._formats[side]
        out[:] = self.frame.pack(values, fmt, part, side, turned=centring is not None)

    def put_raw(
        self,
        part: int,
        layer: int,
        side: Side,
        start: int,
        raw: NDArray[np.uint8],
        type_id: int,
        lacks: Centring | None = None,
    ) -> None:
        """Write rows of another cache, byte for byte if it is of the same type.

        Args:
            lacks: what K of that cache lacks.
        """
        if type_id == self._formats[side].id and lacks == (self._centring if side == "k" else None):
            out = self._rows(part, layer, side, start, start + len(raw))
            if raw.shape != out.shape:
                raise StateError("The parked conversation holds rows of another size.")
            out[:] = raw
            return
        width = self.frame.width(part, layer, side)
        fmt = ggml.row_format(type_id)
        if raw.shape[1] != fmt.row_size(width):
            raise StateError("The parked conversation holds rows of another size.")
        values = self.frame.unpack(raw, fmt, part, side, width, turned_back=lacks is None)
        if lacks is not None:
            at = self._positions[part][start : start + len(values)]
            lacks.rows(part, layer, values, at, rotated=False, back=True)
        self.put_turned(part, layer, side, start, values)

    def finish(self) -> SavedState:
        """The state, read again and so known to be sound.

        Raises:
            StateError: if it is not.
        """
        return read_state(self.data)


def row_bytes(frame: Frame, part: int, layer: int, side: Side, type_id: int) -> int:
    """Bytes of one row of this type.

    Raises:
        StateError: if there is no such type or it does not fit.
    """
    try:
        return ggml.row_format(type_id).row_size(frame.width(part, layer, side))
    except CacheTypeError as error:
        raise StateError("The parked conversation holds rows of a type that does not fit.") from error
