"""Which cores a computation may use: whole ones, fast ones, and as many as a container's quota pays for."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

FAST = 0.75
"""Of the capacity of the strongest core: weaker ones would let all others wait at the end of every step."""


@dataclass(frozen=True, slots=True)
class Cores:
    """What this process may compute with."""

    physical: int
    """Cores; two threads of one core share its units and count once."""
    fast: int
    """Of them those that are not made to save energy."""
    quota: float = math.inf
    """Processors that the cgroup pays for."""

    @property
    def most(self) -> int:
        """Threads that can compute at once."""
        return max(1, min(self.physical, math.floor(min(self.quota, 1 << 20))))

    @property
    def usual(self) -> int:
        """Threads that are taken before anything was measured: one for each fast core."""
        return max(1, min(self.fast, self.most))

    @property
    def words(self) -> str:
        """For people."""
        text = f"{self.physical} core{'s' if self.physical > 1 else ''}"
        if self.fast < self.physical:
            text += f", {self.fast} of them fast"
        return text + (f", a quota of {self.quota:g} processors" if self.quota < self.physical else "")


def read_cores(root: Path = Path("/"), allowed: Iterable[int] | None = None) -> Cores:
    """The cores of this process.

    Args:
        root: where the files of the system are looked for.
        allowed: numbers of the logical processors that it may use; None asks the system.
    """
    if allowed is None and hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
    logical = set(allowed) if allowed is not None else set(range(os.cpu_count() or 1))
    quota = _quota(root)
    cpus = root / "sys/devices/system/cpu"
    cores = {_siblings(cpus / f"cpu{i}", i) & frozenset(logical) for i in logical}
    if not (cpus / "cpu0/topology").is_dir():  # not Linux, or a sandbox that tells nothing
        physical = min(len(logical), psutil.cpu_count(logical=False) or len(logical))
        return Cores(physical, min(physical, _fast_cores_of_mac() or physical), quota)
    fast = {i for i in logical if i in _numbers(root / "sys/devices/cpu_core/cpus")}
    if not fast:
        capacity = {i: _integer(cpus / f"cpu{i}/cpu_capacity") for i in logical}
        fast = {i for i in logical if capacity[i] >= FAST * max(capacity.values())}
    return Cores(len(cores), sum(bool(core & fast) for core in cores), quota)


def processor_name() -> str:
    """The processor's name as the system gives it, or its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _siblings(cpu: Path, number: int) -> frozenset[int]:
    """The logical processors of one core."""
    return _numbers(cpu / "topology/thread_siblings_list") | {number}


def _numbers(path: Path) -> frozenset[int]:
    """A list like ``0-3,8``; empty if there is none."""
    found: set[int] = set()
    try:
        for part in path.read_text().strip().split(","):
            first, _, last = part.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    except (OSError, ValueError):
        pass
    return frozenset(found)


def _integer(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def _quota(root: Path) -> float:
    """The least of the cgroup and those above it: quota over period, both in microseconds."""
    paths = {"": Path("/")}  # by controller; "": version 2
    try:
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            paths.update((name, Path(path)) for name in controllers.split(","))
    except (OSError, ValueError):
        pass
    base = root / "sys/fs/cgroup"
    found = [math.inf]
    for group in (paths[""], *paths[""].parents):
        found.append(_ratio(base / group.relative_to("/") / "cpu.max"))
    cpu = paths.get("cpu", Path("/"))
    for group in (cpu, *cpu.parents):
        place = base / "cpu" / group.relative_to("/")
        found.append(_ratio(place / "cpu.cfs_quota_us", place / "cpu.cfs_period_us"))
    return min(found)


def _ratio(*paths: Path) -> float:
    try:
        quota, period = " ".join(path.read_text() for path in paths).split()[:2]
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return math.inf


def _fast_cores_of_mac() -> int:
    if platform.system() != "Darwin":
        return 0
    command = ["sysctl", "-n", "hw.perflevel0.physicalcpu"]
    try:
        return int(subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0
