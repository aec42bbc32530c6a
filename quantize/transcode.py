"""A saved state from any cache types to any other, without asking the model again.

Row by row: dequantize, turn by the Hadamard blocks if exactly one of the two types is rotated,
quantize. A few MB of buffers whatever the size of the state.

Usage, all in the engine's process::

    data = allocate(context.state_size())
    state = read_state(data[: context.save_state(data)])
    size = transcoded_size(state, geometry, new_k, new_v)
    out = allocate(size)                             # or allocate(size, file=path)
    transcode(state, geometry, new_k, new_v, out)
    other = Context(model, type_k=new_k, type_v=new_v, ...)
    other.load_state(out)
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], bool | None]
"""Called with (bytes written, bytes in all); returning False cancels."""

# def untranscodable_reason(data) -> str                                 in state.py: "" if it can be done
# def read_state(data: NDArray[np.uint8]) -> SavedState                  in state.py: StateError if odd
# def allocate(size: int, file: Path | None = None) -> NDArray[np.uint8] in buffers.py
# def state_size(geometry, n_cells: Sequence[int], type_k: int, type_v: int) -> int   before anything is saved
# def transcoded_size(state, geometry, type_k: int, type_v: int) -> int
# def transcode(state, geometry, type_k: int, type_v: int, out: NDArray[np.uint8], *,
#               on_progress: Progress | None = None, n_threads: int = 0, consume: bool = False) -> None
#     consume=True gives back the memory of what has been read (state is worthless afterwards unless
#     it is a file); raises StateError, CacheTypeError, Cancelled
# def working_bytes(n_threads: int = 0) -> int                           most memory that transcode takes besides
