"""What the memory of the engine did in the last minutes, and where the cache was switched."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """A change of the cache."""

    bucket: int
    """The stretch of time in which it happened."""
    n_bytes: int
    """How the size of the cache changed."""
    label: str
    """The setting that it changed to."""


class History:
    """The largest value in each stretch of ``step`` seconds.

    Stretches without a value repeat the one before: the engine is only asked while
    something happens, and memory that nobody touches stays as it is.
    """

    def __init__(self, step: float = 1.5, length: int = 400) -> None:
        self.step = step
        self.marks: deque[Mark] = deque(maxlen=16)
        self._values: deque[float] = deque(maxlen=length)
        self._last = -1
        self._after_mark = False

    def add(self, now: float, value: float) -> None:
        """Record ``value`` at the time ``now`` (seconds, never going back)."""
        bucket = int(now // self.step)
        if not self._values or bucket > self._last:
            if self._values:
                gap = min(bucket - self._last - 1, self._values.maxlen or 0)
                self._values.extend([self._values[-1]] * gap)
            self._values.append(value)
            self._last = bucket
        elif self._after_mark:
            self._values[-1] = value
        else:
            self._values[-1] = max(self._values[-1], value)
        self._after_mark = False

    def mark(self, now: float, n_bytes: int, label: str) -> None:
        """Record a change of the cache; the next value counts even if it is smaller."""
        self.marks.append(Mark(int(now // self.step), n_bytes, label))
        self._after_mark = True

    def clear(self) -> None:
        """Forget everything: another model follows."""
        self._values.clear()
        self.marks.clear()
        self._last = -1

    def columns(self, width: int) -> list[float]:
        """The newest ``width`` values, the newest last; NaN where there is none."""
        values = list(self._values)[-width:]
        return [math.nan] * (width - len(values)) + values

    def mark_columns(self, width: int) -> list[tuple[int, Mark]]:
        """The marks within the newest ``width`` columns with the column of each."""
        return [(x, m) for m in self.marks if 0 <= (x := width - 1 - (self._last - m.bucket)) < width]
