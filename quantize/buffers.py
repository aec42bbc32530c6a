"""Large byte buffers that give their memory back: in memory of their own, or in a file.

A state is as large as the cache it comes from, and it is handled when memory is short.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantize.errors import OutOfMemoryError

_MADV_DONTNEED = 4 if sys.platform == "linux" else 5  # elsewhere MADV_FREE
_FILL = 8 * 1024 * 1024
_LARGE = 8 * 1024 * 1024


def allocate(size: int, file: Path | None = None) -> NDArray[np.uint8]:
    """A buffer of ``size`` bytes whose memory returns to the system when it is dropped.

    Args:
        file: make this file and map it instead. Its blocks are reserved before it is used, since
            writing to a mapped file on a full disk would end the process. The file stays: the
            caller removes it.

    Raises:
        OutOfMemoryError: if there is no room in memory or on the disk.
    """
    if size <= 0:
        return np.empty(0, np.uint8)
    if file is None:
        try:
            memory = mmap.mmap(-1, size, **_PRIVATE)
            if size >= _LARGE and hasattr(mmap, "MADV_HUGEPAGE"):  # a third of the time to touch it first
                with contextlib.suppress(OSError):  # a kernel without them
                    memory.madvise(mmap.MADV_HUGEPAGE)
            return np.frombuffer(memory, np.uint8)
        except (OSError, ValueError, OverflowError) as error:
            raise OutOfMemoryError(
                f"There is no memory for {size / 2**20:.0f} MiB.", "Choose a shorter context."
            ) from error
    try:
        if size > shutil.disk_usage(file.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _reserve(descriptor, size)
            return np.frombuffer(mmap.mmap(descriptor, size), np.uint8)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OutOfMemoryError(
            f"The disk has no room for a temporary file of {size / 2**20:.0f} MiB "
            f"({error.strerror or error}).",
            "Free some space there.",
        ) from error


def release(data: NDArray[np.uint8], start: int, end: int) -> None:
    """Give back the memory of ``data[start:end]``, whole pages of it.

    What a buffer in memory held there is lost; a file keeps it. Does nothing where the system
    has no such call.
    """
    if _madvise is None:
        return
    first = data.ctypes.data + start
    last = data.ctypes.data + end
    first = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
    last = last // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        _madvise(first, last - first, _MADV_DONTNEED)


def _reserve(descriptor: int, size: int) -> None:
    """Make the file ``size`` bytes long with every block of it on the disk."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
    zeros = bytes(min(size, _FILL))
    written = 0
    while written < size:
        written += os.write(descriptor, zeros[: size - written])


_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


def _find_madvise() -> ctypes._NamedFuncPointer | None:
    if sys.platform not in ("linux", "darwin"):
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    function.restype = ctypes.c_int
    return function


_madvise = _find_madvise()
