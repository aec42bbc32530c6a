"""How many threads llama.cpp should use."""

from __future__ import annotations

import os
from pathlib import Path

import psutil


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
