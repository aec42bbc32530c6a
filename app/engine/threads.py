"""How many threads llama.cpp should use, and does use beside other programs."""

from __future__ import annotations

import math
import os
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING

import psutil

from app.engine.thread_count import Sample, ThreadCount

if TYPE_CHECKING:
    from quantize.llama import Context

WINDOW = 0.1
"""Seconds between two looks at what other programs do."""

MOST_SHARE = 0.005
"""Of the time, spent on looking: it takes 0.1 ms with two cores and longer with very many."""

LONGEST_WINDOW = 0.3


def default_threads() -> int:
    """The number of physical cores that this process may use: more make decoding slower."""
    physical: int = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed, _cgroup_cpus(physical)))


def _cgroup_cpus(otherwise: int) -> int:
    """Whole processors that the cgroup's quota allows (``cpu.max``: quota and period in microseconds)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return max(1, int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return otherwise


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
        most: threads on a machine that does nothing else; 0 takes the physical cores.
        adapt: whether to compute with fewer while other programs keep the cores busy.
    """

    def __init__(self, most: int, *, adapt: bool = True) -> None:
        self._meter = Meter()
        begin = self._meter.read()
        self._known = begin.idle > 0  # some sandboxes tell nothing
        self._count = ThreadCount(most or default_threads(), begin)
        self._due = 0.0
        self._cost = math.inf
        self._adapt = adapt

    @property
    def most(self) -> int:
        """Threads on a machine that does nothing else."""
        return self._count.most

    @property
    def now(self) -> int:
        """Threads that compute. Any thread may ask."""
        return self._count.now

    def limit(self, most: int, *, adapt: bool) -> None:
        """Change what was given to the constructor; it holds from the next token on."""
        self._count.limit(most or default_threads())
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
        if context.n_threads != self._count.now:
            context.set_threads(self._count.now)

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
