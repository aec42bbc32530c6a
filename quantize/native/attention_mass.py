"""How much attention each cell of a cache gets, as the own attention kernel sees it.

Usage, with the kernel on (``quantize.native.attention.enable``) while the context is created::

    context = Context(...)
    watched = Watched.newest()
    if watched.start(n_cells):
        context.decode(...)
        seen = watched.layer(0)
        watched.stop()
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.errors import EngineError
from quantize.native import attention
from quantize.native.library import load


@dataclass(frozen=True, slots=True)
class Seen:
    """What one layer's cells got."""

    most: NDArray[np.float32]
    """The largest probability that any query gave each cell, shape (n_head_kv, n_cells). The queries of
    all heads that share a KV head count."""
    total: NDArray[np.float32]
    """The sum over these queries, same shape."""
    n_tokens: int
    """Tokens whose queries were seen."""
    n_head: int
    """Query heads."""


class Watched:
    """A context whose attention is added up. One thread at a time."""

    def __init__(self, number: int) -> None:
        """``number``: the device's number of the context (``newest`` finds it)."""
        self._number = number
        self._n_cells = 0

    @classmethod
    def newest(cls) -> Watched | None:
        """The context that was created last; None if the kernel is off."""
        return cls(_library().st_device_last()) if attention.enable().ok else None

    def start(self, n_cells: int, n_queries: int = 0) -> bool:
        """Watch from now on; what was seen before is forgotten.

        Args:
            n_cells: the cells from 0 on that are counted. All take part in the softmax.
            n_queries: of so many tokens the rows of Q are kept.

        Returns:
            False without memory.
        """
        self._n_cells = n_cells
        return bool(_library().st_mass_start(self._number, n_cells, n_queries))

    def stop(self) -> None:
        """Stop, and forget what was seen."""
        _library().st_mass_stop(self._number)

    def check(self) -> None:
        """Make sure that everything was counted.

        Raises:
            EngineError: if it was not.
        """
        problem = _library().st_mass_problem(self._number)
        if problem is not None:
            raise EngineError(f"The attention could not be added up: {problem.decode()}.")

    def layer(self, number: int) -> Seen | None:
        """What was seen of a layer (its number in the model); None for nothing."""
        shape = self._shape(number)
        if shape is None:
            return None
        n_head_kv, n_head, _, n_tokens = shape
        most, total = (np.empty((n_head_kv, self._n_cells), np.float32) for _ in range(2))
        _library().st_mass_read(self._number, number, most.ctypes.data, total.ctypes.data)
        return Seen(most, total, n_tokens, n_head)

    def queries(self, number: int) -> NDArray[np.float32]:
        """The kept rows of Q of a layer as the attention took them (after RoPE, turned where the cache is),
        shape (tokens, n_head, head_dim_k)."""
        shape = self._shape(number)
        if shape is None:
            return np.empty((0, 0, 0), np.float32)
        _, n_head, dk, n_tokens = shape
        rows = np.empty((n_tokens, n_head, dk), np.float32)
        n = _library().st_mass_queries(self._number, number, n_tokens, rows.ctypes.data)
        return rows[:n]

    def scale(self, number: int) -> float:
        """What the attention of a layer multiplies the product of Q and K by; 0 if nothing was seen of it."""
        return float(_library().st_mass_scale(self._number, number))

    def _shape(self, number: int) -> tuple[int, int, int, int] | None:
        n_head_kv, n_head, dk = (ctypes.c_int32() for _ in range(3))
        n_tokens = ctypes.c_int64()
        found = _library().st_mass_shape(
            self._number, number, *map(ctypes.byref, (n_head_kv, n_head, dk, n_tokens))
        )
        return (n_head_kv.value, n_head.value, dk.value, n_tokens.value) if found else None


@functools.cache
def _library() -> Any:
    library = load()[0]
    number, size, pointer, flag = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p, ctypes.c_bool
    for name, result, arguments in (
        ("st_device_last", size, ()),
        ("st_mass_start", flag, (size, number, number)),
        ("st_mass_stop", None, (size,)),
        ("st_mass_problem", ctypes.c_char_p, (size,)),
        ("st_mass_shape", flag, (size, number, pointer, pointer, pointer, pointer)),
        ("st_mass_scale", ctypes.c_float, (size, number)),
        ("st_mass_read", flag, (size, number, pointer, pointer)),
        ("st_mass_queries", number, (size, number, number, pointer)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
