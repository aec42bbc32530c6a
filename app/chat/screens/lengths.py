"""Lengths of a context as people choose them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

STEP = 256
"""The engine rounds lengths up to a multiple of this."""

_PATTERN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*([kKmM]?)")


def parse_length(text: str) -> int | None:
    """``16384``, ``16,384``, ``16k``, ``1M`` as a number of tokens; None if it is no length."""
    found = _PATTERN.fullmatch(text.strip().replace(",", "").replace("_", ""))
    if found is None:
        return None
    factor = {"": 1, "k": 1024, "m": 1024 * 1024}[found[2].lower()]
    tokens = round(float(found[1]) * factor)
    return tokens if 0 < tokens <= 1 << 30 else None


def rounded_up(n_tokens: int) -> int:
    """The length that the engine makes of this."""
    return math.ceil(n_tokens / STEP) * STEP


def stops(low: int, high: int, extra: Iterable[int] = ()) -> list[int]:
    """Lengths to stop at between ``low`` and ``high``: powers of two, one and a half times them,
    both ends, and ``extra`` ones; all multiples of ``STEP``."""
    low, high = rounded_up(max(low, 1)), max(rounded_up(max(low, 1)), high // STEP * STEP)
    found = {low, high}
    power = STEP
    while power <= high:
        found.update(n for n in (power, power * 3 // 2) if low <= n <= high and n % STEP == 0)
        power *= 2
    found.update(n for n in map(rounded_up, extra) if low <= n <= high)
    return sorted(found)
