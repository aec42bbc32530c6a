"""Lengths of a context to choose from."""

from __future__ import annotations

from collections.abc import Iterable

from models.plan import CELL_STEP, round_up


def stops(low: int, high: int, extra: Iterable[int] = ()) -> list[int]:
    """Lengths to stop at between ``low`` and ``high``: powers of two, one and a half times them,
    both ends, and ``extra`` ones; all multiples of ``CELL_STEP``."""
    low, high = round_up(max(low, 1)), max(round_up(max(low, 1)), high // CELL_STEP * CELL_STEP)
    found = {low, high}
    power = CELL_STEP
    while power <= high:
        found.update(n for n in (power, power * 3 // 2) if low <= n <= high and n % CELL_STEP == 0)
        power *= 2
    found.update(n for n in map(round_up, extra) if low <= n <= high)
    return sorted(found)
