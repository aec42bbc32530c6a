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
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.buffers import release
from quantize.errors import StateError
from quantize.geometry import Geometry, LayerHeads
from quantize.rotation import hadamard, rotation_k, rotation_v
from quantize.state import CELL_SIZE, HEADER_SIZE, Part, Rows, SavedState

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
    return (n_threads or default_threads()) * 5 * 4 * max(CHUNK, widest)


def state_size(geometry: Geometry, n_cells: Sequence[int], type_k: int, type_v: int) -> int:
    """Bytes of the saved state of a sequence, from the shape of the model alone.

    Args:
        n_cells: cells of each part of the geometry.
        type_k: ggml type id of K.
        type_v: ggml type id of V.

    Raises:
        CacheTypeError: if a type's blocks do not divide a row.
    """
    k, v = ggml.row_format(type_k), ggml.row_format(type_v)
    return HEADER_SIZE + sum(
        _part_size(layers, n, CELL_SIZE, k, v) for layers, n in zip(geometry.parts, n_cells, strict=True)
    )


def transcoded_size(state: SavedState, geometry: Geometry, type_k: int, type_v: int) -> int:
    """Bytes of ``state`` in other types, exactly.

    Raises:
        StateError: if the state cannot be transcoded or belongs to a model of another shape.
        CacheTypeError: if a type's blocks do not divide a row.
    """
    k, v = ggml.row_format(type_k), ggml.row_format(type_v)
    _check(state, geometry)
    return HEADER_SIZE + sum(
        4 + 4 * part.n_stream + _part_size(layers, part.n_cells, part.cell_size, k, v) - 8
        for part, layers in zip(state.parts, geometry.parts, strict=True)
    )


def transcode(
    state: SavedState,
    geometry: Geometry,
    type_k: int,
    type_v: int,
    out: NDArray[np.uint8],
    *,
    on_progress: Progress | None = None,
    n_threads: int = 0,
    consume: bool = False,
) -> bool:
    """Write ``state`` in other types into ``out``. False if ``on_progress`` cancelled it.

    The result is a state for contexts with flash attention, whatever the source was.

    Args:
        type_k: ggml type id of K, as for ``Context``.
        type_v: ggml type id of V.
        out: exactly ``transcoded_size`` bytes, writeable.
        n_threads: 0 takes one per core.
        consume: give back the memory of the source as it is read. A source in memory is worthless
            afterwards (a file keeps its bytes), so only with a buffer from ``allocate``.

    Raises:
        StateError: if the state cannot be transcoded or belongs to a model of another shape.
        CacheTypeError: if a type cannot hold these rows.
        ValueError: if ``out`` has another size.
    """
    size = transcoded_size(state, geometry, type_k, type_v)
    if out.size != size or not out.flags.c_contiguous:
        raise ValueError(f"the transcoded state takes {size} bytes, the buffer has {out.size}")
    out[:HEADER_SIZE] = state.data[:HEADER_SIZE]
    tensors: list[_Tensor] = []
    offset = HEADER_SIZE
    for part, layers in zip(state.parts, geometry.parts, strict=True):
        offset = _lay_out(state.data, part, layers, geometry.first, type_k, type_v, out, offset, tensors)
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
    source_format: ggml.RowFormat
    target_format: ggml.RowFormat
    target_offset: int
    target_size: int
    n_cells: int
    n_values: int
    """Per cell."""
    turn: int
    """Size of the Hadamard blocks to apply, 0 for none."""
    cells_left: int


def _part_size(
    layers: Sequence[LayerHeads], n_cells: int, cell_size: int, k: ggml.RowFormat, v: ggml.RowFormat
) -> int:
    if n_cells == 0:
        return 8
    rows = sum(24 + n_cells * (k.row_size(h.n_embd_k) + v.row_size(h.n_embd_v)) for h in layers)
    return 8 + n_cells * cell_size + 8 + rows


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


def _lay_out(
    data: NDArray[np.uint8],
    part: Part,
    layers: Sequence[LayerHeads],
    first: LayerHeads,
    type_k: int,
    type_v: int,
    out: NDArray[np.uint8],
    offset: int,
    tensors: list[_Tensor],
) -> int:
    """Write everything of a part but its rows, add those to ``tensors``, and return where it ends."""
    before = part.k[0].offset - 12 - 8 if part.k else part.offset + part.size
    out[offset : offset + before - part.offset] = data[part.offset : before]
    offset += before - part.offset
    if part.n_cells == 0:
        return offset
    struct.pack_into("<II", out.data, offset, 0, len(layers))
    offset += 8
    dims_k, dims_v = {h.head_dim_k for h in layers}, {h.head_dim_v for h in layers}
    for rows, type_id in ((part.k, type_k), (part.v, type_v)):
        target = ggml.row_format(type_id)
        for heads, source in zip(layers, rows, strict=True):
            source_format = ggml.row_format(source.type_id)
            if rows is part.k:
                n_values = heads.n_embd_k
                turns = [rotation_k(f.quantized, dims_k, first.head_dim_k) for f in (source_format, target)]
            else:
                n_values = heads.n_embd_v
                turns = [rotation_v(f.quantized, dims_v, first.head_dim_v) for f in (source_format, target)]
            row_size = target.row_size(n_values)
            struct.pack_into("<iQ", out.data, offset, type_id, row_size)
            offset += 12
            size = row_size * part.n_cells
            turn = max(turns) if turns[0] != turns[1] else 0
            tensors.append(
                _Tensor(
                    source, source_format, target, offset, size, part.n_cells, n_values, turn, part.n_cells
                )
            )
            offset += size
    return offset


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
        self.jobs = (job for t in tensors if t.target_size for job in _jobs(t))
        self.done = 0
        self.cancelled = False
        self.widest = max((CHUNK, *(t.n_values for t in tensors)))

    def work(self) -> None:
        """Convert chunk after chunk until there are none left."""
        values, scratch_a, scratch_b = (np.empty(self.widest, np.float32) for _ in range(3))
        raw_in, raw_out = (np.empty(self.widest * 4, np.uint8) for _ in range(2))
        while (job := self.take()) is not None:
            tensor, start, end = job
            n = (end - start) * tensor.n_values
            target_row = tensor.target_size // tensor.n_cells
            position = tensor.target_offset + start * target_row
            out = self.out[position : position + (end - start) * target_row]
            plain = tensor.source_format.id == tensor.target_format.id and not tensor.turn
            if plain and not tensor.source.n_columns:
                out[:] = self.source_rows(tensor, start, end)
            else:
                self.read(tensor, start, end, values[:n], raw_in)
                if tensor.turn:
                    hadamard(values[:n], tensor.turn, scratch_a, scratch_b)
                if _aligned(out):
                    ggml.quantize(tensor.target_format, values[:n], out)
                else:
                    ggml.quantize(tensor.target_format, values[:n], raw_out[: out.size])
                    out[:] = raw_out[: out.size]
            self.finish(tensor, end - start, out.size)

    def take(self) -> tuple[_Tensor, int, int] | None:
        with self.lock:
            return None if self.cancelled else next(self.jobs, None)

    def source_rows(self, tensor: _Tensor, start: int, end: int) -> NDArray[np.uint8]:
        first = tensor.source.offset + start * tensor.source.row_size
        return self.data[first : first + (end - start) * tensor.source.row_size]

    def read(
        self, tensor: _Tensor, start: int, end: int, values: NDArray[np.float32], raw: NDArray[np.uint8]
    ) -> None:
        """The values of cells ``start`` to ``end``."""
        rows = tensor.source
        if rows.n_columns:
            columns = self.data[rows.offset : rows.offset + rows.size].reshape(
                rows.n_columns, tensor.n_cells, rows.row_size
            )
            source = raw[: (end - start) * rows.n_columns * rows.row_size]
            source.reshape(end - start, rows.n_columns, rows.row_size)[:] = columns[:, start:end].swapaxes(
                0, 1
            )
        else:
            source = self.source_rows(tensor, start, end)
            if not _aligned(source):
                raw[: source.size] = source
                source = raw[: source.size]
        ggml.dequantize(tensor.source_format, source, values)

    def finish(self, tensor: _Tensor, n_cells: int, n_bytes: int) -> None:
        with self.lock:
            self.done += n_bytes
            tensor.cells_left -= n_cells
            if self.consume and tensor.cells_left == 0:
                release(self.data, tensor.source.offset, tensor.source.offset + tensor.source.size)
            if self.on_progress is not None and self.on_progress(self.done, self.out.size) is False:
                self.cancelled = True


def _jobs(tensor: _Tensor) -> Iterator[tuple[_Tensor, int, int]]:
    """Runs of cells that hold about ``CHUNK`` values."""
    step = max(1, CHUNK // tensor.n_values)
    bounds = [*range(0, tensor.n_cells, step), tensor.n_cells]
    for start, end in pairwise(bounds):
        yield tensor, start, end


def _aligned(data: NDArray[np.uint8]) -> bool:
    """Whether ggml may read or write these bytes as 32-bit numbers."""
    return data.ctypes.data % 4 == 0
