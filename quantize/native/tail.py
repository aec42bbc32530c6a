"""Age tiers: the newest tokens of a context read exactly, the older ones from the compressed cache.

A tail belongs to one context. It is made around the context's creation and follows it from then on::

    tail = Tail(window=256)
    with tail:
        context = Context(model, type_k=tq3, type_v=tq3, ...)

The attention kernel must be on (``quantize.native.attention.enable``); without it, or on layers that
a GPU computes, a tail has no effect.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quantize.cache_types import DEFAULT_TAIL
from quantize.native import attention
from quantize.native.library import load


class Tail:
    """The exact rows of one context: of its newest ``window`` tokens, and of its first ``first`` cells."""

    def __init__(self, window: int = DEFAULT_TAIL, first: int = 0) -> None:
        """Choose the sizes; 0 and 0 keep nothing."""
        if window < 0 or first < 0:
            raise ValueError(f"a tail cannot have {min(window, first)} tokens")
        self.window = window
        self.first = first
        self._library: Any = None
        self._context = 0

    def __enter__(self) -> Self:
        """The next context that this process creates gets the tail."""
        if attention.enable().ok:
            self._library = _declared()
            self._library.st_device_tail_next(self.window, self.first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._library is not None:
            self._library.st_device_tail_next(0, 0)
            self._context = self._library.st_device_last()

    @property
    def alive(self) -> bool:
        """Whether there is a context that can have exact rows (it exists, and the kernel is on)."""
        return self.bytes >= 0

    @property
    def bytes(self) -> int:
        """Bytes held now; it grows with the first tokens. -1 without a context. Any thread may ask."""
        return int(self._library.st_device_tail_bytes(self._context)) if self._library else -1

    def rows(self, layer: int, side: str) -> int:
        """Rows kept of ``side`` (``"k"`` or ``"v"``) of a layer; those of the last batch come on top."""
        if self._library is None:
            return 0
        return max(0, int(self._library.st_device_tail_rows(self._context, layer, side == "v")))

    def resize(self, window: int, first: int = 0) -> bool:
        """Change the sizes while the context lives. Rows that still fit stay. False without a context.

        A context that was created with no tail gets its first rows once llama.cpp builds its next
        graph: with the next batch of another length.
        """
        if self._library is None or not self._library.st_device_tail_resize(self._context, window, first):
            return False
        self.window, self.first = window, first
        return True

    def reserve(self, layer: int, side: str, n_embd: int, row_bytes: int, n_batch: int) -> bool:
        """Take the memory that rows of this size need, so that ``bytes`` is the whole from the beginning.

        Args:
            n_batch: most tokens that the context computes at once (``n_ubatch``).

        Returns:
            False without a context or without memory.
        """
        return self._library is not None and bool(
            self._library.st_device_tail_reserve(
                self._context, layer, side == "v", n_embd, row_bytes, n_batch
            )
        )

    def fill(
        self,
        layer: int,
        side: str,
        cells: Sequence[int] | NDArray[np.int32],
        values: NDArray[np.float32],
        packed: NDArray[np.uint8],
    ) -> bool:
        """Give exact values to rows that were not written token by token (a switch of types).

        Args:
            layer: number of the layer in the model.
            side: ``"k"`` or ``"v"``.
            cells: cells of the cache, the newest last; in a context that was empty before the state
                was loaded they count from 0 in the order of the state.
            values: shape (cells, n_embd), turned as the cache's rows are.
            packed: shape (cells, bytes of a row), what the cache holds in these cells. A row whose
                bytes are others is never read.

        Returns:
            False without a context or without memory.
        """
        if self._library is None:
            return False
        where = np.ascontiguousarray(cells, np.int32)
        exact = np.ascontiguousarray(values, np.float32)
        rows = np.ascontiguousarray(packed, np.uint8)
        if exact.ndim != 2 or rows.ndim != 2 or not len(where) == len(exact) == len(rows):
            raise ValueError(
                f"{len(where)} cells, values {exact.shape} and rows {rows.shape} do not fit together"
            )
        return bool(
            self._library.st_device_tail_fill(
                self._context,
                layer,
                side == "v",
                where.ctypes.data,
                len(where),
                exact.ctypes.data,
                exact.shape[1],
                rows.ctypes.data,
                rows.shape[1],
            )
        )

    def read(self, layer: int, side: str, n_embd: int) -> tuple[NDArray[np.int32], NDArray[np.float16]]:
        """The kept rows of the first sequence, oldest first: cells, and values of shape (cells, n_embd)."""
        cells, values, _ = self._read(layer, side, n_embd, 0)
        return cells, values

    def exact_rows(
        self, layer: int, side: str, n_embd: int, row_bytes: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float16], NDArray[np.uint8]]:
        """The same with the bytes that the cache made of them.

        Returns:
            cells, values of shape (rows, n_embd), turned as the cache's rows are, and bytes of shape
            (rows, row_bytes). No row if those of the cache have another size.
        """
        return self._read(layer, side, n_embd, row_bytes)

    def _read(
        self, layer: int, side: str, n_embd: int, row_bytes: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float16], NDArray[np.uint8]]:
        room = self.window + self.first
        cells = np.zeros(room, np.int32)
        values = np.zeros((room, n_embd), np.float16)
        packed = np.zeros((room, row_bytes), np.uint8)
        n = 0
        if self._library is not None:
            n = self._library.st_device_tail_read(
                self._context,
                layer,
                side == "v",
                room,
                n_embd,
                cells.ctypes.data,
                values.ctypes.data,
                row_bytes,
                packed.ctypes.data if row_bytes else None,
            )
        n = max(n, 0)
        return cells[:n], values[:n], packed[:n]


def _declared() -> Any:
    library = load()[0]
    number, size, pointer, flag = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p, ctypes.c_bool
    for name, result, arguments in (
        ("st_device_tail_next", None, (number, number)),
        ("st_device_last", size, ()),
        ("st_device_tail_resize", flag, (size, number, number)),
        ("st_device_tail_reserve", flag, (size, number, flag, number, ctypes.c_size_t, number)),
        (
            "st_device_tail_fill",
            flag,
            (size, number, flag, pointer, number, pointer, number, pointer, ctypes.c_size_t),
        ),
        (
            "st_device_tail_read",
            number,
            (size, number, flag, number, number, pointer, pointer, ctypes.c_size_t, pointer),
        ),
        ("st_device_tail_bytes", size, (size,)),
        ("st_device_tail_rows", number, (size, number, flag)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
