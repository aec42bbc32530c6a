"""Room for saved states: in memory, or in files without a name.

A state goes to a file where it may have to outlive the cache that it came from. The file is
removed from its directory as soon as it is mapped, so that nothing is left behind however the
process ends, and nobody else can open what was said in a conversation.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.paths import cache_dir, private_dir
from quantize.buffers import allocate
from quantize.errors import EngineError, OutOfMemoryError, StoreError
from quantize.llama import Context

DISK_RESERVE = 256 * 1024 * 1024
"""Bytes of the disk that are left free."""

_numbers = itertools.count()


def _directory() -> Path:
    return private_dir(cache_dir() / "states")


def disk_room() -> int:
    """Bytes that states may take on the disk now."""
    try:
        return max(0, shutil.disk_usage(_directory()).free - DISK_RESERVE)
    except (OSError, StoreError):
        return 0


def in_file(size: int) -> NDArray[np.uint8]:
    """A buffer of ``size`` bytes in a file without a name.

    Raises:
        OutOfMemoryError: if the disk has no room, or no file can be made.
    """
    if size > disk_room():
        raise OutOfMemoryError("The disk has no room for a temporary file.", "Free some space there.")
    path = _directory() / f"{os.getpid()}-{next(_numbers)}"
    try:
        return allocate(size, path)
    finally:
        path.unlink(missing_ok=True)


def in_memory(size: int) -> NDArray[np.uint8]:
    """A buffer of ``size`` bytes in memory that returns to the system when it is dropped.

    Raises:
        OutOfMemoryError: if there is none.
    """
    return allocate(size)


def save(context: Context, room: Callable[[int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The state of the conversation, as bytes, in a buffer that ``room`` makes.

    Raises:
        OutOfMemoryError: if ``room`` has none.
        EngineError: if llama.cpp cannot write the state.
    """
    data = room(context.state_size())
    written = context.save_state(data)
    if not written:
        raise EngineError("llama.cpp could not save the state of the conversation.", "The log says why.")
    return data[:written]
