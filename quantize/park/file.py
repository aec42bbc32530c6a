"""The file of a parked conversation.

::

    file    = "STRETCHK", u32 version, u32 length of the header, header (JSON), digest, block+, "END."
    block   = u32 length, digest, bytes
    digest  = 16 bytes of BLAKE2b; a block's is keyed with the header's and salted with its number

The first block is the token ids. Nothing in a file is executed, and nothing is believed before its digest was
compared: lengths are bounded by the file's own, so that no number in it makes the reader allocate. A file is
written under another name, flushed to the disk and renamed: whenever the process or the machine stops, the
name leads to a whole file or to none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from quantize.errors import StateError

MAGIC = b"STRETCHK"
VERSION = 1
END = b"END."
MAX_HEADER = 1 << 20
MAX_BLOCK = 1 << 30
MAX_TOKENS = 1 << 26
_DIGEST = 16
_START = struct.Struct("<8sII")
_LENGTH = struct.Struct("<I")

DAMAGED = "The file of the parked conversation is damaged."


@dataclass(frozen=True, slots=True)
class About:
    """What a file says of itself."""

    fingerprint: str
    """Of the model."""
    setting: str
    """The codec with its setting, as ``codec.parse`` takes it."""
    profile: str
    """Digest of the calibration, empty if the codec needs none."""
    tables: str
    """Digest of the entropy coder's distributions."""
    n_tokens: int
    cells: tuple[int, ...]
    """Of each part."""
    type_k: int
    """ggml's type ids of the cache that was parked: the exact rows are kept as they were."""
    type_v: int
    f16_bytes: int
    """Of the same cells in an f16 cache, for the figures."""
    conversation: int = 0
    """Whose it is; 0 if nobody's."""
    created: float = 0.0
    """Seconds since the epoch."""


class ParkWriter:
    """Writes a file; leaving the ``with`` block without ``finish`` leaves nothing behind."""

    def __init__(self, path: Path, about: About, tokens: NDArray[np.int32]) -> None:
        """
        Raises:
            OSError: if the file cannot be made.
        """
        self.path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        header = json.dumps(asdict(about)).encode()
        if len(header) > MAX_HEADER:
            raise ValueError("the header is too long")
        self._key = hashlib.blake2b(header, digest_size=_DIGEST).digest()
        self._number = 0
        self.n_bytes = 0
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file: IO[bytes] | None = os.fdopen(descriptor, "wb")
        try:
            self._write(_START.pack(MAGIC, VERSION, len(header)) + header + self._key)
            self.block(np.ascontiguousarray(tokens, "<i4").tobytes())
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
        """Read the header and the tokens.

        Raises:
            StateError: if it is damaged, or of another version.
            OSError: if it cannot be read.
        """
        self._file = path.open("rb")
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            magic, version, length = _START.unpack(self._take(_START.size))
            if magic != MAGIC:
                raise StateError("This is not the file of a parked conversation.")
            if version != VERSION:
                raise StateError("The conversation was parked by another version of Stretch.")
            if length > MAX_HEADER:
                raise StateError(DAMAGED)
            header = self._take(length)
            self._key = self._take(_DIGEST)
            if hashlib.blake2b(header, digest_size=_DIGEST).digest() != self._key:
                raise StateError(DAMAGED)
            self._number = 0
            self.about = _about(header)
            data = self.block()
            if len(data) != 4 * self.about.n_tokens:
                raise StateError(DAMAGED)
            self.tokens: NDArray[np.int32] = np.frombuffer(data, "<i4").astype(np.int32)
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
        digest = self._take(_DIGEST)
        data = self._take(length)
        if _digest(data, self._key, self._number) != digest:
            raise StateError(DAMAGED)
        self._number += 1
        return data

    def blocks(self) -> Iterator[bytes]:
        """All blocks that are asked for; a file that has fewer is damaged."""
        while True:
            yield self.block()

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
    return hashlib.blake2b(data, digest_size=_DIGEST, key=key, salt=number.to_bytes(16, "little")).digest()


def _about(header: bytes) -> About:
    try:
        fields: dict[str, Any] = json.loads(header)
        cells = tuple(int(n) for n in fields.pop("cells"))
        about = About(cells=cells, **fields)
        numbers = (about.n_tokens, about.type_k, about.type_v, about.f16_bytes, about.conversation)
        texts = (about.fingerprint, about.setting, about.profile, about.tables)
        good = all(isinstance(n, int) and n >= 0 for n in numbers) and all(isinstance(t, str) for t in texts)
        good = good and isinstance(about.created, int | float) and about.n_tokens <= MAX_TOKENS
        good = good and len(cells) <= 3 and all(0 <= n <= about.n_tokens for n in cells)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise StateError(DAMAGED) from error
    if not good:
        raise StateError(DAMAGED)
    return about
