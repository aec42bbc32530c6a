"""How many threads llama.cpp should use, and does use beside other programs."""

from __future__ import annotations

import math
import os
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import psutil

from app.engine.cores import read_cores
from app.engine.thread_choice import ThreadChoice
from app.engine.thread_count import Sample, ThreadCount

if TYPE_CHECKING:
    from quantize.llama import Context

WINDOW = 0.1
"""Seconds between two looks at what other programs do."""

MOST_SHARE = 0.005
"""Of the time, spent on looking: it takes 0.1 ms with two cores and longer with very many."""

LONGEST_WINDOW = 0.3


def default_threads() -> int:
    """One for each fast core that this process may use: what is taken before anything was measured."""
    return read_cores().usual


class Meter:
    """Reads what ``ThreadCount`` decides by."""

    def __init__(self) -> None:
        self._allowed: frozenset[int] = frozenset()  # if these are not all cores
        if hasattr(os, "sched_getaffinity"):
            allowed = os.sched_getaffinity(0)
            if len(allowed) < (psutil.cpu_count() or 1):
                self._allowed = frozenset(allowed)
        try:
            self._interface: psutil.Process | None = psutil.Process(os.getppid())
        except psutil.Error:
            self._interface = None
        self._interface_seconds = 0.0

    def read(self) -> Sample:
        """The totals of now."""
        own = process_time() + self._of_interface()
        if self._allowed:
            cores = psutil.cpu_times(percpu=True)
            idle = sum(_idle(each) for i, each in enumerate(cores) if i in self._allowed)
        else:
            idle = _idle(psutil.cpu_times())
        return Sample(perf_counter(), own, idle)

    def _of_interface(self) -> float:
        """Its processor seconds: what it draws is not another program's load."""
        if self._interface is not None:
            try:
                times = self._interface.cpu_times()
                self._interface_seconds = times.user + times.system
            except psutil.Error:
                self._interface = None
        return self._interface_seconds


def _idle(times: object) -> float:
    idle: float = getattr(times, "idle", 0.0) + getattr(times, "iowait", 0.0)
    return idle


class Threads:
    """The threads of one session, which make room for other programs between two tokens.

    Args:
        most: threads on a machine that does nothing else; 0 takes one for each fast core.
        adapt: whether to compute with fewer while other programs keep the cores busy.
    """

    def __init__(self, most: int, *, adapt: bool = True) -> None:
        self._meter = Meter()
        begin = self._meter.read()
        self._known = begin.idle > 0  # some sandboxes tell nothing
        most = most or default_threads()
        self._choice = ThreadChoice(most, most, "")
        self._count = ThreadCount(most, begin)
        self._due = 0.0
        self._cost = math.inf
        self._adapt = adapt

    @property
    def most(self) -> int:
        """Threads that write on a machine that does nothing else."""
        return self._choice.writing

    @property
    def most_reading(self) -> int:
        """Threads that read a text on a machine that does nothing else."""
        return self._choice.reading

    @property
    def why(self) -> str:
        """Why it is these numbers: a sentence."""
        return self._choice.why

    @property
    def now(self) -> int:
        """Threads that write. Any thread may ask."""
        return min(self._count.now, self._choice.writing)

    @property
    def now_reading(self) -> int:
        """Threads that read. Any thread may ask."""
        return min(self._count.now, self._choice.reading)

    def limit(self, choice: ThreadChoice, *, adapt: bool) -> None:
        """Change what was given to the constructor; it holds from the next token on."""
        self._choice = choice
        self._count.limit(max(choice.writing, choice.reading))
        self._adapt = adapt
        if not adapt:
            self._count.now = self._count.most

    def rest(self) -> None:
        """Nothing has been computed since ``end``. The more often this is called, the fresher is what
        the next command begins with; the interface asks for figures every two seconds."""
        if self._watches:
            self._count.rest(self._look())

    def begin(self) -> None:
        """A command begins that may compute."""
        if self._watches:
            self._count.start(self._look())

    def end(self) -> None:
        """It has ended: until the next one nothing computes."""
        if self._watches:
            self._count.see(self._look())

    def watch(self, context: Context) -> None:
        """Between two tokens or batches: look around if it is time, and let ``context`` follow."""
        if self._watches and perf_counter() >= self._due:
            self._count.see(self._look())
        if (context.n_threads, context.n_threads_reading) != (self.now, self.now_reading):
            context.set_threads(self.now, self.now_reading)

    @property
    def _watches(self) -> bool:
        return self._adapt and self._known and self._count.most > 1

    def _look(self) -> Sample:
        began = perf_counter()
        sample = self._meter.read()
        now = perf_counter()
        self._cost = min(self._cost, now - began)  # the least: others may take the core meanwhile
        self._due = now + max(WINDOW, min(self._cost / MOST_SHARE, LONGEST_WINDOW))
        return sample
