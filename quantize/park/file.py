"""The file of a parked conversation.

::

    file    = "STRETCHK", u32 version, u32 length of the header, header (JSON), digest, block+, "END."
    block   = u32 length, digest, bytes
    digest  = 16 bytes of BLAKE2b; a block's is keyed with the header's and salted with its number

The first block is the token ids, the second what the user pinned (JSON). A file may hold only the cells from
some token on and name the file that has those before it (``header.About.beginning``).

Nothing in a file is executed, and nothing is believed before its digest was compared: lengths are bounded by
the file's own, so that no number in it makes the reader allocate. A file is written under another name,
flushed to the disk and renamed: whenever the process or the machine stops, the name leads to a whole file or
to none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from quantize.errors import StateError
from quantize.park.header import (
    DAMAGED,
    DIGEST,
    MAGIC,
    MAX_HEADER,
    START,
    VERSION,
    About,
    take_about,
)

__all__ = ["DAMAGED", "END", "About", "ParkReader", "ParkWriter"]

END = b"END."
MAX_BLOCK = 1 << 30
_LENGTH = struct.Struct("<I")


class ParkWriter:
    """Writes a file; leaving the ``with`` block without ``finish`` leaves nothing behind."""

    def __init__(self, path: Path, about: About, tokens: NDArray[np.int32], pins: Sequence[str] = ()) -> None:
        """
        Args:
            pins: texts that must not be pruned.

        Raises:
            OSError: if the file cannot be made.
        """
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        header = json.dumps(asdict(about)).encode()
        if len(header) > MAX_HEADER:
            raise ValueError("the header is too long")
        self._key = hashlib.blake2b(header, digest_size=DIGEST).digest()
        self._number = 0
        self.n_bytes = 0
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file: IO[bytes] | None = os.fdopen(descriptor, "wb")
        try:
            self._write(START.pack(MAGIC, VERSION, len(header)) + header + self._key)
            self.block(np.ascontiguousarray(tokens, "<i4").tobytes())
            self.block(json.dumps(list(pins)).encode())
        except BaseException:
            self._drop()
            raise

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self.n_bytes += len(data)

    def block(self, data: bytes) -> None:
        """Add one block.

        Raises:
            OSError: if the disk is full.
        """
        if len(data) > MAX_BLOCK:
            raise ValueError("the block is too long")
        self._write(_LENGTH.pack(len(data)) + _digest(data, self._key, self._number) + data)
        self._number += 1

    def finish(self) -> int:
        """Put the file in its place; its bytes.

        Raises:
            OSError: if the disk is full.
        """
        assert self._file is not None
        self._write(END)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        self._temporary.replace(self.path)
        if hasattr(os, "O_DIRECTORY"):
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return self.n_bytes

    def _drop(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()


class ParkReader:
    """Reads a file from its beginning to its end."""

    def __init__(self, path: Path) -> None:
        """Read the header, the tokens and the pins.

        Raises:
            StateError: if it is damaged, or of another version.
            OSError: if it cannot be read.
        """
        self.path = path
        self._file = path.open("rb")
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            self.about, self._key = take_about(self._file)
            self._number = 0
            data = self.block()
            if len(data) != 4 * self.about.n_tokens:
                raise StateError(DAMAGED)
            self.tokens: NDArray[np.int32] = np.frombuffer(data, "<i4").astype(np.int32)
            self.pins = _pins(self.block())
        except BaseException:
            self._file.close()
            raise

    def _take(self, n: int) -> bytes:
        data = self._file.read(n)
        if len(data) != n:
            raise StateError(DAMAGED)
        return data

    def block(self) -> bytes:
        """The next block.

        Raises:
            StateError: if it is damaged.
        """
        (length,) = _LENGTH.unpack(self._take(_LENGTH.size))
        if length > min(MAX_BLOCK, self.size):
            raise StateError(DAMAGED)
        digest = self._take(DIGEST)
        data = self._take(length)
        if _digest(data, self._key, self._number) != digest:
            raise StateError(DAMAGED)
        self._number += 1
        return data

    def blocks(self) -> Iterator[bytes]:
        """All blocks that are asked for; a file that has fewer is damaged."""
        while True:
            yield self.block()

    def check(self) -> None:
        """Read the rest without using it.

        Raises:
            StateError: if it is damaged.
        """
        while self._file.tell() < self.size - len(END):
            self.block()
        self.end()

    def end(self) -> None:
        """Check that nothing follows.

        Raises:
            StateError: if something does.
        """
        if self._file.read() != END:
            raise StateError(DAMAGED)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _digest(data: bytes, key: bytes, number: int) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST, key=key, salt=number.to_bytes(16, "little")).digest()


def _pins(data: bytes) -> tuple[str, ...]:
    try:
        pins = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StateError(DAMAGED) from error
    if not isinstance(pins, list) or not all(isinstance(pin, str) for pin in pins):
        raise StateError(DAMAGED)
    return tuple(pins)
