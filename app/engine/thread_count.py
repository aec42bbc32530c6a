"""How many threads are worth computing with beside other programs: the decision alone, without a clock.

The threads of llama.cpp wait for each other by spinning, some fifty times a token. A thread whose core
another program uses lets all others wait for as long as the system gives that program, so one thread too
many is far worse than one too few. One figure says how many there can be: the processor time that this
program got and the time that cores were idle, per second. It is the number of cores that others leave.
Nobody's load is taken for theirs that is not: time in which our own threads sleep (for a disk, for a GPU,
at the end of a long step) is idle time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SLACK = 0.25
"""So much of a core others may use before it counts as taken. With a fifth of a core taken two threads of
two are about as fast as one."""

CLEAR = 0.5
"""So much that it needs no second look. Less may be a short burst, of a terminal that draws for instance."""

SHORTEST = 0.04
"""Seconds; nothing is concluded from less. The system counts idle time in hundredths."""

SHORTEST_REST = 0.2
"""The same while nothing is computed: there is no hurry."""

FIRST_WAIT = 0.3
"""Seconds that a core must have been free before it is used again."""

LONGEST_WAIT = 20.0

TRIAL = 4.0
"""Seconds after which a thread that was added counts as kept; one that was taken away sooner doubles the
wait for the next."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Three running totals, in seconds."""

    at: float
    """Of a clock."""
    own: float
    """Of processor time of this program: of the engine and of the interface."""
    idle: float
    """Of idle time of the cores that the engine may use, added up."""


class ThreadCount:
    """Fewer threads at once where others take cores, more only after a while.

    Args:
        most: the number of threads on a machine that does nothing else.
        begin: where the totals stand now.
    """

    def __init__(self, most: int, begin: Sample) -> None:
        self.most = most
        self.now = most
        self._last = begin
        self._added_at = -math.inf
        self._short = False
        self._free_for = 0.0
        self._free = most
        self._wait = FIRST_WAIT

    def limit(self, most: int) -> None:
        """At most so many from now on; a number that others had lowered stays low."""
        if self.now == self.most:
            self.now = most
        self.most, self.now = most, min(self.now, most)
        self._free_for = 0.0

    def rest(self, sample: Sample) -> None:
        """Nothing was computed since the last sample: what others left holds at once, in both directions."""
        if sample.at - self._last.at >= SHORTEST_REST:
            self.now = self._worth(sample)
            self._last = sample
            self._free_for = 0.0

    def start(self, sample: Sample) -> None:
        """Computing begins, after a rest."""
        self.rest(sample)
        self._last = sample

    def see(self, sample: Sample) -> None:
        """Take what happened since the last sample while ``now`` threads computed."""
        seconds = sample.at - self._last.at
        if seconds < SHORTEST:
            return
        worth, clear = self._worth(sample), self._worth(sample, CLEAR)
        self._last = sample
        again, self._short = self._short, worth < self.now <= clear
        if worth < self.now:
            self._free_for = 0.0
            if self._short and not again:
                return
            kept = sample.at - self._added_at
            self._wait = min(2 * self._wait, LONGEST_WAIT) if kept < TRIAL else FIRST_WAIT
            self.now = min(worth if again else clear, clear)
            self._short = False
        elif worth > self.now:
            self._free = min(worth, self._free) if self._free_for else worth
            self._free_for += seconds
            if self._free_for >= self._wait:
                self.now, self._added_at = self._free, sample.at
                self._free_for = 0.0
        else:
            self._free_for = 0.0

    def _worth(self, sample: Sample, slack: float = SLACK) -> int:
        """As many threads as there are cores that others left since the last sample."""
        before = self._last
        left = (sample.own - before.own + sample.idle - before.idle) / (sample.at - before.at)
        return max(1, min(self.most, math.floor(left + slack)))
