"""How much memory a process may take: what the machine, its control group or the Mac's GPU allows.

Available memory is an estimate of every system: on Linux the kernel's ``MemAvailable`` (free memory
and what it could take back from caches), on macOS free and inactive pages. A control group (a
container, or a service with a limit) can allow less than the machine has; what its page cache holds
can be taken back, so inactive file pages do not count as used. On a Mac with Apple silicon the GPU
may keep about two thirds of a small memory and three quarters of a large one
(``recommendedMaxWorkingSetSize``); ``iogpu.wired_limit_mb`` overrides that.
"""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
"""Version 1 writes "no limit" as a number near 2**63."""
_LARGE_MAC = 36 << 30


_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(?:i?b)?\s*")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def read_size(text: str) -> int | None:
    """``8G``, ``7.5 GiB``, ``512M`` or plain bytes: the size of a memory; None if it is none."""
    match = _SIZE.fullmatch(text.lower())
    size = round(float(match[1]) * _UNITS[match[2]]) if match else 0
    return size if 0 < size < 1 << 60 else None


@dataclass(frozen=True, slots=True)
class Memory:
    """What there is, in bytes."""

    total: int
    """Of the machine, or the limit of the control group if that is less."""
    available: int
    """What a program could still take without pushing others out."""
    source: str
    """Who set the limit: ``machine``, ``cgroup`` or ``metal``."""


def memory(*, on_gpu: bool = False) -> Memory:
    """What this process may take now.

    Args:
        on_gpu: count what a Mac's GPU may keep instead of what programs may.
    """
    machine = psutil.virtual_memory()
    found = Memory(machine.total, machine.available, "machine")
    if platform.system() == "Linux":
        for limit, used in cgroup_limits(_CGROUP_ROOT, _own_groups()):
            room = max(limit - used, 0)
            if room < found.available or limit < found.total:
                found = Memory(min(limit, found.total), min(room, found.available), "cgroup")
    elif on_gpu and platform.system() == "Darwin" and platform.machine() == "arm64":
        working_set = mac_working_set(machine.total, _wired_limit_mb())
        if working_set < found.total:
            used = machine.total - machine.available
            found = Memory(working_set, min(found.available, max(working_set - used, 0)), "metal")
    return found


def mac_working_set(total: int, wired_limit_mb: int = 0) -> int:
    """Bytes that the GPU of a Mac with ``total`` bytes of unified memory may keep.

    Args:
        wired_limit_mb: ``iogpu.wired_limit_mb``; 0 leaves it to the system.
    """
    if wired_limit_mb:
        return min(wired_limit_mb << 20, total)
    return total * 2 // 3 if total <= _LARGE_MAC else total * 3 // 4


def cgroup_limits(root: Path, groups: dict[str, str]) -> list[tuple[int, int]]:
    """Limit and use of every control group that holds this process, itself and those above it.

    Args:
        root: where the control groups are mounted.
        groups: path below the mount by controller; version 2 has the empty name.

    Returns:
        Pairs of bytes; groups without a limit are left out.
    """
    v2 = groups.get("")
    found: list[tuple[int, int]] = []
    if v2 is not None and (root / "cgroup.controllers").exists():
        for group in _upwards(root, v2):
            limit = min(
                (n for n in (_number(group / "memory.max"), _number(group / "memory.high")) if n is not None),
                default=None,
            )
            used = _number(group / "memory.current")
            if limit is not None and used is not None:
                found.append((limit, max(used - _stat(group, "inactive_file"), 0)))
    elif "memory" in groups:
        for group in _upwards(root / "memory", groups["memory"]):
            limit, used = _number(group / "memory.limit_in_bytes"), _number(group / "memory.usage_in_bytes")
            if limit is not None and used is not None and limit < _UNLIMITED:
                found.append((limit, max(used - _stat(group, "total_inactive_file"), 0)))
    return found


def _own_groups() -> dict[str, str]:
    """The lines of /proc/self/cgroup: path by controller."""
    groups: dict[str, str] = {}
    try:
        text = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return groups
    for line in text.splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def _upwards(root: Path, group: str) -> list[Path]:
    """The directory of a group and those above it, up to the mount.

    A container often sees its own group as the mount, under another name than /proc says.
    """
    relative = Path(group.lstrip("/"))
    if ".." in relative.parts or not (root / relative).is_dir():
        return [root]
    return [root / relative, *(root / parent for parent in relative.parents)]


def _number(path: Path) -> int | None:
    """The number in a file; None for ``max`` or if there is none."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _stat(group: Path, name: str) -> int:
    """One line of a group's memory.stat."""
    try:
        with (group / "memory.stat").open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(" ")
                if key == name and value.strip().isdigit():
                    return int(value)
    except OSError:
        pass
    return 0


@cache
def _wired_limit_mb() -> int:
    """The user's own limit for the GPU, 0 for none."""
    try:
        said = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "iogpu.wired_limit_mb"],
            capture_output=True,
            text=True,
            timeout=2,
            check=False,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return int(said) if said.isdigit() else 0
