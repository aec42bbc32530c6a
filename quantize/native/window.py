"""Exact rows on their way from one cache to the next.

A switch of types or the return to a saved state makes a new context, whose tail is empty. What it
should hold is known somewhere: in the tail of the old context, in the old cache itself if its type was
finer, or in a state of the same conversation that was kept for an undo. ``gather`` looks for the
newest rows in these places while they are there, and ``Filling.fill`` gives them to the new tail.

    window = read_window(old_tail, layout, type_k, type_v)      # the old context may go now
    filling = gather(256, [Source(state, window, n)], state, layout, new_k, new_v)
    ... transcode, filling.write_into(switched), open the new context with a tail, load the state ...
    filling.fill(tail, switched)

Rows are looked up by position and by their bytes, never by the cell that they had: a tail's row belongs
to a row of a state if the cache made the same bytes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.cache_types import SINKS
from quantize.centring import Centring, Recentring, is_known, with_id
from quantize.geometry import Geometry, LayerHeads
from quantize.native.tail import Tail
from quantize.rotation import hadamard, rotation_k, rotation_v
from quantize.state import Rows, SavedState


@dataclass(frozen=True, slots=True)
class Layout:
    """The caches of a model, with the numbers by which llama.cpp calls their layers."""

    geometry: Geometry
    layers: tuple[tuple[int, ...], ...]
    """Per part of the geometry the numbers of its layers in the model."""

    @classmethod
    def plain(cls, geometry: Geometry) -> Layout:
        """Of a model with one cache and all layers in it."""
        return cls(geometry, tuple(tuple(range(len(part))) for part in geometry.parts))

    def sides(self, part: int) -> Iterator[tuple[int, int, str, LayerHeads]]:
        """Index in the part, number of the layer, ``k`` or ``v``, and its heads."""
        for i, (layer, heads) in enumerate(zip(self.layers[part], self.geometry.parts[part], strict=True)):
            for side in "kv":
                yield i, layer, side, heads

    def rotation(self, part: int, side: str, fmt: ggml.RowFormat) -> int:
        """Size of the rotation of rows of this format in this cache; 0 for none."""
        heads, first = self.geometry.parts[part], self.geometry.first
        if side == "k":
            return rotation_k(fmt.quantized, {h.head_dim_k for h in heads}, first.head_dim_k)
        return rotation_v(fmt.quantized, {h.head_dim_v for h in heads}, first.head_dim_v)


@dataclass(frozen=True, slots=True)
class ExactRows:
    """Rows of K or of V of one layer, the oldest first."""

    cells: NDArray[np.int32]
    """Where they lie in the cache."""
    values: NDArray[np.float16]
    """Shape (rows, n_embd), turned as the rows of the cache are."""
    packed: NDArray[np.uint8]
    """Shape (rows, bytes of a row): what the cache made of them."""


Window = dict[tuple[int, str], ExactRows]
"""What a tail held: its rows by number of the layer and side."""


def reserve(tail: Tail, layout: Layout, type_k: int, type_v: int, n_batch: int) -> None:
    """Take the memory of a tail when its context is made.

    Args:
        n_batch: most tokens that the context computes at once.
    """
    formats = {"k": ggml.row_format(type_k), "v": ggml.row_format(type_v)}
    for part in range(len(layout.geometry.parts)):
        for _, layer, side, heads in layout.sides(part):
            n_embd = heads.n_embd_k if side == "k" else heads.n_embd_v
            tail.reserve(layer, side, n_embd, formats[side].row_size(n_embd), n_batch)


def window_bytes(window: Window) -> int:
    """Bytes of its rows."""
    return sum(rows.values.nbytes + rows.packed.nbytes for rows in window.values())


def read_window(tail: Tail, layout: Layout, type_k: int, type_v: int) -> Window:
    """Take the rows out of a tail, to have them when its context has gone.

    Args:
        type_k: ggml type of K in the context.
        type_v: the same of V.
    """
    formats = {"k": ggml.row_format(type_k), "v": ggml.row_format(type_v)}
    window: Window = {}
    for part in range(len(layout.geometry.parts)):
        for _, layer, side, heads in layout.sides(part):
            n_embd = heads.n_embd_k if side == "k" else heads.n_embd_v
            cells, values, packed = tail.exact_rows(layer, side, n_embd, formats[side].row_size(n_embd))
            if len(values):
                window[layer, side] = ExactRows(cells, values, packed)
    return window


def place(window: Window, buffer: NDArray[np.uint8]) -> Window:
    """The same rows in ``buffer`` (of ``window_bytes``): all values, then all bytes, so that values are
    aligned."""
    n_values = sum(rows.values.nbytes for rows in window.values())
    values, packed = buffer[:n_values].view(np.float16), buffer[n_values:]
    placed: Window = {}
    for key, rows in window.items():
        placed[key] = ExactRows(
            rows.cells,
            values[: rows.values.size].reshape(rows.values.shape),
            packed[: rows.packed.size].reshape(rows.packed.shape),
        )
        placed[key].values[:] = rows.values
        placed[key].packed[:] = rows.packed
        values, packed = values[rows.values.size :], packed[rows.packed.size :]
    return placed


def put_back(tail: Tail, window: Window) -> None:
    """Give a tail rows that it held before, in the same context: the newer ones that took their place
    are no longer wanted. Those whose cells were written again since then are not read."""
    for (layer, side), rows in window.items():
        tail.fill(layer, side, rows.cells, rows.values.astype(np.float32), rows.packed)


@dataclass(frozen=True, slots=True)
class Source:
    """A state of the same conversation in which exact rows may be found."""

    state: SavedState
    window: Window | None
    """What the tail beside its cache held."""
    n_valid: int
    """Only the rows of positions below this are those of the conversation, and"""
    n_first: int = 0
    """from this one on."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The first and the newest rows of K or of V of one layer, as far as they were found, the newest last."""

    part: int
    index: int
    """Of the layer in the part."""
    layer: int
    side: str
    cells: NDArray[np.intp]
    """Rows of the new state."""
    values: NDArray[np.float16]
    """Shape (cells, n_embd), turned as the rows of the new cache are."""
    exact: NDArray[np.bool_]
    """False: only better than what the new cache makes of it."""
    recent: NDArray[np.bool_]
    """False: one of the first tokens of all."""


@dataclass(frozen=True, slots=True)
class Filling:
    """What the window of a new context will hold."""

    found: tuple[_Found, ...]

    @property
    def n_exact(self) -> int:
        """Newest tokens whose rows are exact in every layer."""
        return min((int((f.exact & f.recent).sum()) for f in self.found), default=0)

    def write_into(self, state: SavedState) -> None:
        """Make the rows of a transcoded ``state`` from the exact ones, where these were found."""
        for f in self.found:
            target = _rows(state, f.part, f.side)[f.index]
            fmt = ggml.row_format(target.type_id)
            packed = np.empty((int(f.exact.sum()), target.row_size), np.uint8)
            ggml.quantize(fmt, np.ascontiguousarray(f.values[f.exact], np.float32), packed)
            state.rows(target)[f.cells[f.exact]] = packed

    def fill(self, tail: Tail, state: SavedState) -> None:
        """Give the rows to ``tail``, whose context has loaded ``state`` and computed nothing yet."""
        for f in self.found:
            packed = state.rows(_rows(state, f.part, f.side)[f.index])[f.cells]
            tail.fill(f.layer, f.side, f.cells.astype(np.int32), f.values.astype(np.float32), packed)


NOTHING = Filling(())


def gather(
    n_window: int,
    sources: Sequence[Source],
    like: SavedState,
    layout: Layout,
    type_k: int,
    type_v: int,
    centring: Centring | None = None,
) -> Filling:
    """Find the newest rows for a context that will hold a state in other types.

    Args:
        n_window: tokens of the new tail.
        sources: where to look, the best first. The first exact row counts; without one, a row that is
            finer than the new cache's.
        like: a state with the positions of the one that will be loaded.
        type_k: ggml type of K in the new cache.
        type_v: the same of V.
        centring: what K of the new cache is stored without.
    """
    if len(like.parts) != len(layout.geometry.parts):
        return NOTHING  # a recurrent model, whose state is not transcoded
    formats = {"k": ggml.row_format(type_k), "v": ggml.row_format(type_v)}
    sources = [s for s in sources if is_known(s.state.centring)]
    found: list[_Found] = []
    for part, p in enumerate(like.parts):
        positions = like.positions(part)
        order = np.argsort(positions, kind="stable")
        n_recent = min(n_window, len(positions))
        sinks = order[: min(SINKS, len(positions) - n_recent)] if n_recent else order[:0]
        newest = np.concatenate([sinks, order[len(positions) - n_recent :]])
        recent = np.arange(len(newest)) >= len(sinks)
        usable = [s for s in sources if _same_shape(s.state, like, part)]
        if not len(newest) or p.v_trans or not p.v:
            continue
        for i, layer, side, heads in layout.sides(part):
            n_embd = heads.n_embd_k if side == "k" else heads.n_embd_v
            values = np.zeros((len(newest), n_embd), np.float16)
            kind = np.zeros(len(newest), np.int8)
            for source in usable:
                after = centring if side == "k" else None
                _take(
                    source,
                    part,
                    i,
                    layer,
                    side,
                    positions[newest],
                    values,
                    kind,
                    layout,
                    formats[side],
                    after,
                )
            known = kind > _UNKNOWN
            exact = kind[known] == _EXACT
            found.append(_Found(part, i, layer, side, newest[known], values[known], exact, recent[known]))
    return Filling(tuple(found))


_UNKNOWN, _FINER, _EXACT = 0, 1, 2


def _take(
    source: Source,
    part: int,
    index: int,
    layer: int,
    side: str,
    positions: NDArray[np.int32],
    values: NDArray[np.float16],
    kind: NDArray[np.int8],
    layout: Layout,
    target: ggml.RowFormat,
    centring: Centring | None,
) -> None:
    """Take the rows of ``positions`` that ``source`` has and that are not exact yet."""
    rows = _rows(source.state, part, side)[index]
    fmt = ggml.row_format(rows.type_id)
    at, there = _lookup(source.state.positions(part), positions)
    valid = (positions >= source.n_first) & (positions < source.n_valid)
    wanted = np.flatnonzero(there & valid & (kind < _EXACT))
    if not len(wanted):
        return
    packed = np.ascontiguousarray(source.state.rows(rows)[at[wanted]])
    of_tail = (source.window or {}).get((layer, side))
    exact, row_of = match(packed, of_tail)
    finer = not fmt.quantized or rows.row_size > target.row_size(values.shape[1])
    if not finer and not exact.any():
        return
    read = np.empty((len(wanted), values.shape[1]), np.float32)
    ggml.dequantize(fmt, packed, read)
    if of_tail is not None:
        read[exact] = of_tail.values[row_of[exact]]
    turns = [layout.rotation(part, side, f) for f in (fmt, target)]
    before = with_id(source.state.centring) if side == "k" else None
    if before != centring:
        Recentring(part, index, before, centring).apply(
            read, positions[wanted], source_turned=turns[0] > 0, target_turned=turns[1] > 0
        )
    elif turns[0] != turns[1]:
        hadamard(read.reshape(-1), max(turns))
    new = np.where(exact | (not fmt.quantized), _EXACT, _FINER if finer else _UNKNOWN).astype(np.int8)
    better = new > kind[wanted]
    values[wanted[better]] = read[better]
    kind[wanted[better]] = new[better]


def match(packed: NDArray[np.uint8], rows: ExactRows | None) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which of ``packed`` a tail has the exact values of, and in which of its rows."""
    row_of = np.full(len(packed), -1, np.intp)
    if rows is not None and rows.packed.shape[1] == packed.shape[1]:
        index = {row.tobytes(): i for i, row in enumerate(rows.packed)}
        row_of[:] = [index.get(row.tobytes(), -1) for row in packed]
    return row_of >= 0, row_of


def _lookup(have: NDArray[np.int32], wanted: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where each of ``wanted`` stands in ``have``, and whether it does."""
    order = np.argsort(have, kind="stable")
    place = np.minimum(np.searchsorted(have[order], wanted), len(have) - 1)
    at = order[place]
    return at, have[at] == wanted


def _rows(state: SavedState, part: int, side: str) -> tuple[Rows, ...]:
    return state.parts[part].k if side == "k" else state.parts[part].v


def _same_shape(a: SavedState, b: SavedState, part: int) -> bool:
    """Whether both have rows of as many layers in this part."""
    if len(a.parts) != len(b.parts):
        return False
    p, q = a.parts[part], b.parts[part]
    return p.n_cells > 0 and not p.v_trans and len(p.k) == len(q.k) and len(p.v) == len(q.v)
