"""How fast memory is read: the limit that writing over a long cache can come up to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

TIMES = 5


def plain_read(n_bytes: int, n_threads: int, clock: Callable[[], float] = perf_counter) -> float:
    """Bytes per second that ``n_threads`` threads read ``n_bytes`` with (at least a megabyte).

    They are read again and again, as a cache is, so they come from where a cache of this size would.
    """
    data = np.ones(max(n_bytes, 1 << 20) // 8, np.int64)
    parts = np.array_split(data, n_threads)
    seconds = []
    for _ in range(TIMES):
        gate = threading.Barrier(n_threads + 1)
        readers = [threading.Thread(target=_read, args=(part, gate)) for part in parts]
        for each in readers:
            each.start()
        gate.wait()
        began = clock()
        for each in readers:
            each.join()
        seconds.append(clock() - began)
    return data.nbytes / median(seconds)


def _read(part: NDArray[np.int64], gate: threading.Barrier) -> None:
    gate.wait()
    part.sum()
