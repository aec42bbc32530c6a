"""Available memory under the limits of control groups and of a Mac's GPU."""

from __future__ import annotations

from pathlib import Path

import psutil

from models.memory import cgroup_limits, mac_working_set, memory

GIB = 1 << 30


def group(root: Path, path: str, **files: str) -> None:
    """Make one control group."""
    directory = root / path
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text + "\n")


def test_this_machine() -> None:
    found = memory()
    assert 0 < found.available <= found.total <= psutil.virtual_memory().total
    assert found.source in ("machine", "cgroup", "metal")


def test_version_2_counts_every_group_above(tmp_path: Path) -> None:
    group(tmp_path, ".", cgroup__controllers="memory")
    group(tmp_path, "a", memory__max=str(4 * GIB), memory__current=str(GIB), memory__stat="inactive_file 0")
    group(
        tmp_path,
        "a/b",
        memory__max="max",
        memory__high=str(2 * GIB),
        memory__current=str(GIB),
        memory__stat=f"anon 5\ninactive_file {GIB // 2}",
    )
    assert cgroup_limits(tmp_path, {"": "/a/b"}) == [(2 * GIB, GIB // 2), (4 * GIB, GIB)]


def test_version_2_without_limits(tmp_path: Path) -> None:
    group(tmp_path, ".", cgroup__controllers="memory")
    group(tmp_path, "a", memory__max="max", memory__high="max", memory__current="5")
    assert cgroup_limits(tmp_path, {"": "/a"}) == []


def test_version_1(tmp_path: Path) -> None:
    group(
        tmp_path,
        "memory/docker/x",
        memory__limit_in_bytes=str(3 * GIB),
        memory__usage_in_bytes=str(2 * GIB),
        memory__stat=f"total_inactive_file {GIB}",
    )
    group(tmp_path, "memory", memory__limit_in_bytes=str(2**63 - 4096), memory__usage_in_bytes="1")
    assert cgroup_limits(tmp_path, {"memory": "/docker/x"}) == [(3 * GIB, GIB)]


def test_a_container_sees_its_own_group_as_the_mount(tmp_path: Path) -> None:
    """/proc tells the path on the host, which does not exist below the mount inside."""
    group(tmp_path, ".", cgroup__controllers="memory", memory__max=str(GIB), memory__current="7")
    assert cgroup_limits(tmp_path, {"": "/system.slice/docker-abc.scope"}) == [(GIB, 7)]
    assert cgroup_limits(tmp_path, {"": "/../../other"}) == [(GIB, 7)]


def test_groups_that_cannot_be_read(tmp_path: Path) -> None:
    group(tmp_path, ".", cgroup__controllers="memory")
    group(tmp_path, "a", memory__max="not a number", memory__current="1")
    assert cgroup_limits(tmp_path, {"": "/a"}) == []
    assert cgroup_limits(tmp_path / "none", {"": "/", "memory": "/"}) == []
    assert cgroup_limits(tmp_path, {}) == []


def test_macs() -> None:
    assert mac_working_set(8 * GIB) == 8 * GIB * 2 // 3
    assert mac_working_set(64 * GIB) == 48 * GIB
    assert mac_working_set(16 * GIB, wired_limit_mb=14_000) == 14_000 << 20
    assert mac_working_set(16 * GIB, wired_limit_mb=99_000) == 16 * GIB
