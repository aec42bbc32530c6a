"""How many threads a model is fastest with: the decision alone, without a clock.

Threads wait for each other some hundred times a token. A small model is fastest with few of many cores,
a large one with all that are fast; where the best number lies only measuring tells. It is looked for from
all cores downwards by halves, then between the best number and its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

NEARLY = 0.97
"""Of the best rate: fewer threads that reach it are taken. They leave more to others."""

FALLING = 0.8
"""Of the best rate: fewer threads than those that fall below it are not tried."""


@dataclass(frozen=True, slots=True)
class ThreadChoice:
    """With how many threads tokens are written and a text is read."""

    writing: int
    reading: int
    why: str
    """A sentence."""


def search(rate: Callable[[int], float | None], most: int) -> dict[int, float]:
    """Rates (any unit, more is better) by number of threads, of the numbers that are worth trying.

    Args:
        rate: measures one number; None ends the search (there is no more time).
        most: threads that can compute at once.
    """
    rates: dict[int, float] = {}

    def tried(n: int) -> bool:
        if n not in rates:
            found = rate(n)
            if found is None:
                return False
            rates[n] = found
        return True

    n = most
    while n >= 1 and tried(n):
        if rates[n] < FALLING * max(rates.values()):
            break
        n //= 2
    step = True
    while rates and step:
        best = max(rates, key=lambda n: rates[n])
        below = max((n for n in rates if n < best), default=best)
        above = min((n for n in rates if n > best), default=best)
        between = [m for m in ((best + above) // 2, (below + best) // 2) if m not in rates and m >= 1]
        # Between 8 and 16 threads 12 is tried; whether 7 or 8 are faster nobody will notice.
        between = [m for m in between if min(abs(m - known) for known in rates) * 5 >= m]
        step = bool(between) and all(tried(m) for m in between)
    return rates


def best_of(rates: Mapping[int, float], otherwise: int) -> int:
    """The smallest number that is nearly as fast as the fastest."""
    good = [n for n, rate in rates.items() if rate >= NEARLY * max(rates.values())]
    return min(good, default=otherwise)
