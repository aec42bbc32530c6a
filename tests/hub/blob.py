"""Contents of any size that take no memory, every 64 KiB of them different."""

from __future__ import annotations

import hashlib
import random
import struct
from dataclasses import dataclass, field
from functools import cached_property

_BLOCK = 1 << 16


@dataclass
class Blob:
    """The bytes of a file: ``head``, then a pattern that follows from ``seed``."""

    size: int
    head: bytes = b""
    seed: int = 1
    _body: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._body = random.Random(self.seed).randbytes(_BLOCK - 8)

    @staticmethod
    def of(data: bytes) -> Blob:
        """A file with exactly this content."""
        return Blob(len(data), data)

    def read(self, offset: int, n: int) -> bytes:
        """``n`` bytes from ``offset`` on, fewer at the end."""
        end = min(offset + n, self.size)
        out = bytearray(self.head[offset:end])
        at = offset + len(out)
        while at < end:
            number, inside = divmod(at, _BLOCK)
            block = struct.pack("<q", number) + self._body
            piece = block[inside : inside + end - at]
            out += piece
            at += len(piece)
        return bytes(out)

    @cached_property
    def sha256(self) -> str:
        """The hash of the content."""
        hasher = hashlib.sha256()
        for at in range(0, self.size, 1 << 22):
            hasher.update(self.read(at, 1 << 22))
        return hasher.hexdigest()

    @cached_property
    def git_oid(self) -> str:
        """The hash of the content as git's object."""
        return hashlib.sha1(b"blob %d\0" % self.size + self.read(0, self.size)).hexdigest()
