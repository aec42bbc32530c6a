"""Buffers that give memory back."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from quantize.buffers import allocate, release
from quantize.errors import OutOfMemoryError

SIZE = 48 << 20


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def test_memory_returns_when_it_is_released_and_when_it_is_dropped() -> None:
    before = resident()
    data = allocate(SIZE)
    data[:] = 7
    assert resident() - before > SIZE * 0.9
    release(data, 1, SIZE // 2 + 1)  # bounds inside pages: only whole pages go
    assert resident() - before < SIZE * 0.6
    assert data[0] == 7 and data[SIZE // 2 + 4096] == 7
    del data
    assert resident() - before < SIZE * 0.1


def test_a_file_keeps_what_its_memory_gives_back(tmp_path: Path) -> None:
    path = tmp_path / "state"
    data = allocate(SIZE, path)
    assert path.stat().st_blocks * 512 >= SIZE, "the blocks are there before they are written"
    assert path.stat().st_mode & 0o777 == 0o600
    data[:] = 9
    release(data, 0, SIZE)
    assert data[SIZE // 3] == 9
    del data
    again = np.fromfile(path, np.uint8)
    assert again.size == SIZE and (again == 9).all()


def test_nothing_is_left_of_a_file_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "state"
    disk = os.statvfs(tmp_path)
    with pytest.raises(OutOfMemoryError, match="no room"):
        allocate(disk.f_blocks * disk.f_frsize + SIZE, path)
    assert not path.exists()
    with pytest.raises(OutOfMemoryError):
        allocate(SIZE, tmp_path / "no such directory" / "state")


def test_too_much_memory_is_an_error_of_ours() -> None:
    with pytest.raises(OutOfMemoryError):
        allocate(1 << 62)


def test_empty() -> None:
    assert allocate(0).size == 0
