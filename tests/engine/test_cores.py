"""Which cores count: files of the system as Linux writes them, made for the test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.engine.cores import Cores, read_cores


def machine(root: Path, siblings: Mapping[int, str], files: Mapping[str, str] | None = None) -> Path:
    for number, others in siblings.items():
        topology = root / f"sys/devices/system/cpu/cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{others}\n")
    for name, text in (files or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_two_threads_of_one_core_count_once(tmp_path: Path) -> None:
    root = machine(tmp_path, {i: f"{i % 4},{i % 4 + 4}" for i in range(8)})
    assert read_cores(root, range(8)) == Cores(4, 4)
    assert read_cores(root, (0, 4)) == Cores(1, 1)
    assert read_cores(root, (0, 1, 2, 4)) == Cores(3, 3)


def test_cores_that_save_energy_are_not_fast(tmp_path: Path) -> None:
    """Intel: two cores with two threads each, and four small ones."""
    siblings = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"} | {i: str(i) for i in range(4, 8)}
    root = machine(tmp_path, siblings, {"sys/devices/cpu_core/cpus": "0-3\n"})
    cores = read_cores(root, range(8))
    assert (cores.physical, cores.fast, cores.most, cores.usual) == (6, 2, 6, 2)
    assert "2 of them fast" in cores.words


def test_capacities_of_arm(tmp_path: Path) -> None:
    capacity = (1024, 1024, 900, 900, 350, 350)
    files = {f"sys/devices/system/cpu/cpu{i}/cpu_capacity": f"{c}\n" for i, c in enumerate(capacity)}
    root = machine(tmp_path, {i: str(i) for i in range(6)}, files)
    assert read_cores(root, range(6)) == Cores(6, 4)


@pytest.mark.parametrize(
    ("files", "quota"),
    (
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, math.inf),
        ({"sys/fs/cgroup/cpu.max": "350000 100000\n"}, 3.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        ({"sys/fs/cgroup/cpu.max": "nonsense\n"}, math.inf),
    ),
)
def test_the_quota_of_a_container(tmp_path: Path, files: Mapping[str, str], quota: float) -> None:
    cores = read_cores(machine(tmp_path, {i: str(i) for i in range(8)}, files), range(8))
    assert cores.quota == quota
    assert cores.most == max(1, min(8, math.floor(min(quota, 8))))


def test_this_machine_has_some() -> None:
    cores = read_cores()
    assert 1 <= cores.usual <= cores.most and cores.fast <= cores.physical
