"""Where the bytes of a header come from: a file, memory, or (in models.hub) HTTP ranges."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from quantize.errors import ModelFileError


class ByteSource(Protocol):
    """Bytes that can be read at any place."""

    @property
    def name(self) -> str:
        """What to call the source in messages."""

    @property
    def size(self) -> int | None:
        """Length of the whole file in bytes, None if nobody knows."""

    def read_at(self, offset: int, n: int) -> bytes:
        """Up to ``n`` bytes from ``offset`` on; fewer only at the end of the file."""


class MemorySource:
    """Bytes in memory, for example the part of a file that was fetched so far.

    Args:
        size: length of the whole file if ``data`` is only its beginning.
    """

    def __init__(self, data: bytes, name: str = "The file", size: int | None = None) -> None:
        self.data = data
        self.name = name
        self.size: int | None = len(data) if size is None else size

    def read_at(self, offset: int, n: int) -> bytes:
        return self.data[offset : offset + n]


class FileSource:
    """A local file. It is read, not mapped: another program may cut it off meanwhile.

    Raises:
        ModelFileError: if it cannot be opened or is not a regular file.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        try:
            # Without O_NONBLOCK opening a named pipe would wait for its writer.
            self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        except FileNotFoundError:
            raise ModelFileError(f"There is no file {path}.") from None
        except PermissionError:
            raise ModelFileError(f"{path} may not be read.", "Check the permissions of the file.") from None
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {error.strerror}.") from None
        info = os.fstat(self._fd)
        if not stat.S_ISREG(info.st_mode):
            os.close(self._fd)
            what = "a directory" if stat.S_ISDIR(info.st_mode) else "not a regular file"
            raise ModelFileError(f"{path} is {what}.", "Give the path of a .gguf file.")
        self.size: int | None = info.st_size

    def read_at(self, offset: int, n: int) -> bytes:
        try:
            os.lseek(self._fd, offset, os.SEEK_SET)
            return os.read(self._fd, n)
        except OSError as error:
            raise ModelFileError(f"{self.name} cannot be read: {error.strerror}.") from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
