"""A saved state from any cache types to any other, without asking the model again.

Row by row: dequantize, turn by the Hadamard blocks if exactly one of the two types is rotated,
quantize. The buffers take a few MB whatever the size of the state.

Usage, all in the engine's process::

    data = allocate(context.state_size())
    state = read_state(data[: context.save_state(data)])
    out = allocate(transcoded_size(state, geometry, new_k, new_v))      # or allocate(size, file)
    if transcode(state, geometry, new_k, new_v, out):
        other = Context(model, type_k=new_k, type_v=new_v, ...)
        other.load_state(out)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.buffers import release
from quantize.centring import Centring, Recentring, with_id
from quantize.errors import CacheTypeError, StateError
from quantize.geometry import Geometry, LayerHeads
from quantize.rotation import hadamard, rotation_k, rotation_v
from quantize.state import (
    HEADER_SIZE,
    Part,
    Rows,
    RowShape,
    SavedState,
    part_size,
    write_header,
    write_part,
    write_rows_header,
)

Progress = Callable[[int, int], bool | None]
"""Called from several threads in turn with (bytes written, bytes in all); False cancels."""

CHUNK = 1 << 16
"""Values that are converted at once by one thread: they stay in its second-level cache."""

MAX_THREADS = 8


def default_threads() -> int:
    """Threads that ``transcode`` uses unless it is told otherwise."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return min(os.cpu_count() or 1, MAX_THREADS)


def working_bytes(geometry: Geometry, n_threads: int = 0) -> int:
    """Most memory that ``transcode`` takes besides the two states."""
    widest = max((max(h.n_embd_k, h.n_embd_v) for part in geometry.parts for h in part), default=0)
    return (n_threads or default_threads()) * 4 * 4 * max(CHUNK, widest)


def state_size(geometry: Geometry, n_cells: Sequence[int], type_k: int, type_v: int) -> int:
    """Bytes of the saved state of a sequence, from the shape of the model alone.

    Args:
        n_cells: cells of each part of the geometry.
        type_k: ggml type id of K.
        type_v: ggml type id of V.

    Raises:
        CacheTypeError: if a type's blocks do not divide a row.
    """
    return HEADER_SIZE + sum(
        part_size(n, chain(*_shapes(layers, type_k, type_v)))
        for layers, n in zip(geometry.parts, n_cells, strict=True)
    )


def transcoded_size(state: SavedState, geometry: Geometry, type_k: int, type_v: int) -> int:
    """Bytes of ``state`` in other types, exactly.

    Raises:
        StateError: if the state cannot be transcoded or belongs to a model of another shape.
        CacheTypeError: if a type's blocks do not divide a row.
    """
    _check(state, geometry)
    return HEADER_SIZE + sum(
        part_size(
            part.n_cells,
            chain(*_shapes(layers, type_k, type_v)),
            n_stream=part.n_stream,
            cell_size=part.cell_size,
        )
        for part, layers in zip(state.parts, geometry.parts, strict=True)
    )


def transcode(
    state: SavedState,
    geometry: Geometry,
    type_k: int,
    type_v: int,
    out: NDArray[np.uint8],
    *,
    centring: Centring | None = None,
    flash_attention: bool = True,
    on_progress: Progress | None = None,
    n_threads: int = 0,
    consume: bool = False,
) -> bool:
    """Write ``state`` in other types into ``out``. False if ``on_progress`` cancelled it.

    Args:
        type_k: ggml type id of K, as for ``Context``.
        type_v: ggml type id of V.
        out: exactly ``transcoded_size`` bytes, writeable.
        centring: of the context that will load it (``Context.centring``), None if its K is stored whole.
        flash_attention: whether the context that will load it has flash attention (its V is
            stored the other way round without).
        n_threads: 0 takes one per core.
        consume: give back the memory of the source as it is read. A source in memory is worthless
            afterwards (a file keeps its bytes), so only with a buffer from ``allocate``.

    Raises:
        StateError: if the state cannot be transcoded or belongs to a model of another shape, or if what its
            K was stored without is not known any more.
        CacheTypeError: if a type cannot hold these rows, or V is to be quantized without flash
            attention.
        ValueError: if ``out`` has another size.
    """
    if not flash_attention and ggml.row_format(type_v).quantized:
        raise CacheTypeError("Quantized V needs flash attention, which this model runs without.")
    size = transcoded_size(state, geometry, type_k, type_v)
    if out.size != size or not out.flags.c_contiguous:
        raise ValueError(f"the transcoded state takes {size} bytes, the buffer has {out.size}")
    before = with_id(state.centring)
    write_header(out, state.seq_id, centring.id if centring is not None else 0)
    tensors: list[_Tensor] = []
    offset = HEADER_SIZE
    for index, (part, layers) in enumerate(zip(state.parts, geometry.parts, strict=True)):
        shapes = _shapes(layers, type_k, type_v)
        placed = write_part(state, part, out, offset, *shapes, v_trans=not flash_attention)
        new = list(_tensors(part, placed, layers, geometry.first))
        if before != centring:
            positions = state.positions(index)
            for layer, tensor in enumerate(new[: len(part.k)]):  # those of K come first
                tensor.recentring = Recentring(index, layer, before, centring)
                tensor.positions = positions
        tensors += new
        offset += placed.size
    run = _Run(state.data, out, tensors, on_progress, consume)
    threads = n_threads or default_threads()
    if threads == 1 or size < CHUNK:
        run.work()
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="transcode") as pool:
            futures = [pool.submit(run.work) for _ in range(threads)]
            wait(futures)
        for future in futures:
            future.result()
    return not run.cancelled


@dataclass(slots=True)
class _Tensor:
    """K or V of one layer, from one type to another."""

    source: Rows
    target: Rows
    source_format: ggml.RowFormat
    target_format: ggml.RowFormat
    n_cells: int
    n_values: int
    """Per cell."""
    turn: int
    """Size of the Hadamard blocks to apply, 0 for none."""
    cells_left: int
    recentring: Recentring | None = None
    """K lacks another constant before than after."""
    positions: NDArray[np.int32] | None = None
    """Of the cells, with ``recentring``."""


def _shapes(layers: Sequence[LayerHeads], type_k: int, type_v: int) -> tuple[list[RowShape], list[RowShape]]:
    """The rows of K and of V, one per layer."""
    k, v = ggml.row_format(type_k), ggml.row_format(type_v)
    return (
        [RowShape(type_k, h.n_embd_k, k.row_size(h.n_embd_k)) for h in layers],
        [RowShape(type_v, h.n_embd_v, v.row_size(h.n_embd_v)) for h in layers],
    )


def _check(state: SavedState, geometry: Geometry) -> None:
    """Refuse a state that is not one of a model of this shape."""
    if state.obstacle:
        raise StateError(state.obstacle, "The conversation has to be read again instead.")
    if len(state.parts) != len(geometry.parts):
        raise StateError(
            f"The state has {len(state.parts)} caches and the model {len(geometry.parts)}: it belongs to "
            "another model."
        )
    for part, layers in zip(state.parts, geometry.parts, strict=True):
        if part.n_cells == 0:
            continue
        if len(part.k) != len(layers):
            raise StateError(
                f"The state has {len(part.k)} layers and the model {len(layers)}: it belongs to another "
                "model."
            )
        for heads, k, v in zip(layers, part.k, part.v, strict=True):
            for rows, n_values in ((k, heads.n_embd_k), (v, heads.n_embd_v)):
                fmt = ggml.row_format(rows.type_id)
                found = rows.n_columns or rows.row_size // fmt.type_size * fmt.block_size
                if found != n_values:
                    raise StateError(
                        f"The state has rows of {found} values and the model rows of {n_values}: it belongs "
                        "to another model."
                    )


def _tensors(part: Part, placed: Part, layers: Sequence[LayerHeads], first: LayerHeads) -> Iterator[_Tensor]:
    """The work of one part."""
    dims_k, dims_v = {h.head_dim_k for h in layers}, {h.head_dim_v for h in layers}

    def tensor(source: Rows, target: Rows, n_values: int, rotation: Callable[[bool], int]) -> _Tensor:
        formats = ggml.row_format(source.type_id), ggml.row_format(target.type_id)
        before, after = (rotation(f.quantized) for f in formats)
        turn = 0 if before == after else max(before, after)
        if turn and n_values % turn:
            raise CacheTypeError(
                f"llama.cpp would rotate rows of {n_values} values {turn} at a time, which cannot be.",
                "Choose a type without blocks, for example f16.",
            )
        return _Tensor(source, target, *formats, part.n_cells, n_values, turn, part.n_cells)

    for heads, source, target in zip(layers if part.n_cells else (), part.k, placed.k, strict=True):
        yield tensor(source, target, heads.n_embd_k, lambda q: rotation_k(q, dims_k, first.head_dim_k))
    for heads, source, target in zip(layers if part.n_cells else (), part.v, placed.v, strict=True):
        yield tensor(source, target, heads.n_embd_v, lambda q: rotation_v(q, dims_v, first.head_dim_v))


class _Run:
    """The conversion of all tensors, shared by the threads that do it."""

    def __init__(
        self,
        data: NDArray[np.uint8],
        out: NDArray[np.uint8],
        tensors: Sequence[_Tensor],
        on_progress: Progress | None,
        consume: bool,
    ) -> None:
        self.data = data
        self.out = out
        self.on_progress = on_progress
        self.consume = consume
        self.lock = threading.Lock()
        self.jobs = (job for t in tensors for job in _jobs(t))
        self.done = 0
        self.cancelled = False
        self.widest = max((CHUNK, *(t.n_values for t in tensors)))

    def work(self) -> None:
        """Convert chunk after chunk until there are none left."""
        values, scratch_a, scratch_b = (np.empty(self.widest, np.float32) for _ in range(3))
        raw = np.empty(self.widest * 4, np.uint8)
        try:
            while (job := self.take()) is not None:
                tensor, start, end = job
                source, target = tensor.source, tensor.target
                if start == 0:
                    write_rows_header(self.out, target)
                plain = source.type_id == target.type_id and not tensor.turn and tensor.recentring is None
                if plain and not source.n_columns and not target.n_columns:
                    _rows(self.out, target, start, end)[:] = _rows(self.data, source, start, end)
                elif tensor.n_values:  # a layer can be without KV heads
                    chunk = values[: (end - start) * tensor.n_values]
                    self.read(tensor, start, end, chunk, raw)
                    if tensor.recentring is not None and tensor.positions is not None:
                        tensor.recentring.apply(
                            chunk.reshape(end - start, -1),
                            tensor.positions[start:end],
                            source_turned=tensor.source_format.quantized,
                            target_turned=tensor.target_format.quantized,
                        )
                    elif tensor.turn:
                        hadamard(chunk, tensor.turn, scratch_a, scratch_b)
                    self.write(tensor, start, end, chunk, raw)
                self.finish(tensor, end - start)
        except BaseException:
            self.cancelled = True  # the other threads stop too
            raise

    def take(self) -> tuple[_Tensor, int, int] | None:
        with self.lock:
            return None if self.cancelled else next(self.jobs, None)

    def read(
        self, tensor: _Tensor, start: int, end: int, values: NDArray[np.float32], raw: NDArray[np.uint8]
    ) -> None:
        """The values of cells ``start`` to ``end``."""
        rows = tensor.source
        if rows.n_columns:
            source = raw[: (end - start) * rows.n_columns * rows.row_size]
            source.reshape(end - start, rows.n_columns, -1)[:] = _columns(self.data, rows, start, end)
        else:
            source = _rows(self.data, rows, start, end)
            if not _aligned(source):
                raw[: source.size] = source
                source = raw[: source.size]
        ggml.dequantize(tensor.source_format, source, values)

    def write(
        self, tensor: _Tensor, start: int, end: int, values: NDArray[np.float32], raw: NDArray[np.uint8]
    ) -> None:
        """Store the values of cells ``start`` to ``end``."""
        rows = tensor.target
        if rows.n_columns:
            target = raw[: (end - start) * rows.n_columns * rows.row_size]
            ggml.quantize(tensor.target_format, values, target)
            _columns(self.out, rows, start, end)[:] = target.reshape(end - start, rows.n_columns, -1)
            return
        out = _rows(self.out, rows, start, end)
        target = out if _aligned(out) else raw[: out.size]
        ggml.quantize(tensor.target_format, values, target)
        if target is not out:
            out[:] = target

    def finish(self, tensor: _Tensor, n_cells: int) -> None:
        with self.lock:
            self.done += tensor.target.size // tensor.n_cells * n_cells
            tensor.cells_left -= n_cells
            if self.consume and tensor.cells_left == 0:
                release(self.data, tensor.source.offset, tensor.source.offset + tensor.source.size)
            if self.on_progress is not None and self.on_progress(self.done, self.out.size) is False:
                self.cancelled = True


def _jobs(tensor: _Tensor) -> Iterator[tuple[_Tensor, int, int]]:
    """Runs of cells that hold about ``CHUNK`` values."""
    step = max(1, CHUNK // max(1, tensor.n_values))
    bounds = [*range(0, tensor.n_cells, step), tensor.n_cells]
    for start, end in pairwise(bounds):
        yield tensor, start, end


def _rows(data: NDArray[np.uint8], rows: Rows, start: int, end: int) -> NDArray[np.uint8]:
    """Bytes of the rows of cells ``start`` to ``end``: a flat view."""
    return data[rows.offset + start * rows.row_size : rows.offset + end * rows.row_size]


def _columns(data: NDArray[np.uint8], rows: Rows, start: int, end: int) -> NDArray[np.uint8]:
    """The same of rows that are stored as columns: a view, shape (cells, n_columns, element size)."""
    columns = data[rows.offset : rows.offset + rows.size].reshape(rows.n_columns, -1, rows.row_size)
    return columns[:, start:end].swapaxes(0, 1)


def _aligned(data: NDArray[np.uint8]) -> bool:
    """Whether ggml may read or write these bytes as 32-bit numbers."""
    return data.ctypes.data % 4 == 0
