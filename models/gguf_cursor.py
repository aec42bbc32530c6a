"""Walks once over the bytes of a GGUF header; every count and length is checked before its use."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from models.byte_source import ByteSource
from quantize.errors import ModelFileError

MAX_STRING_BYTES = 1 << 20
"""Longest string that is kept (chat templates take tens of kilobytes)."""
MAX_ARRAY_KEPT = 4096
"""Lists of numbers up to this length are kept; longer ones are walked over."""
MAX_STRINGS_KEPT = 64
"""The same for lists of strings."""
MAX_STRINGS = 1 << 22
"""Strings in all arrays of one file. The largest vocabularies and their merges take a fifth of it."""
MAX_HEADER_BYTES = 1 << 27
MAX_KEPT_BYTES = 1 << 24
"""Metadata that is kept, in bytes of the file; it can take sixteen times as much in memory."""

_FIRST_READ = 1 << 18
_LARGEST_READ = 1 << 22

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_ARRAY_HEAD = struct.Struct("<IQ")


@dataclass(frozen=True, slots=True)
class Skipped:
    """An array that was walked over: only its length is known."""

    length: int


Scalar = bool | int | float | str
Value = Scalar | list[Scalar] | Skipped


class Cursor:
    """Walks over a source once, holding no more than one window of it."""

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self.name = source.name
        self.window = b""
        self.start = 0  # of the window in the file
        self.at = 0  # in the window
        self.step = _FIRST_READ
        self.n_strings = 0
        self.n_kept = 0

    # ------------------------------------------------------------------ bytes

    def need(self, n: int) -> None:
        """Make sure that ``n`` more bytes are in the window.

        Raises:
            ModelFileError: if the file ends before them.
        """
        while len(self.window) - self.at < n:
            end = self.start + len(self.window)
            if end + n > MAX_HEADER_BYTES + _LARGEST_READ:
                raise ModelFileError(f"The header of {self.name} is larger than any real one.")
            more = self.source.read_at(end, max(self.step, n - (len(self.window) - self.at)))
            if not more:
                raise ModelFileError(
                    f"{self.name} is damaged, or cut off in the middle of its header.", "Download it again."
                )
            self.window = self.window[self.at :] + more
            self.start += self.at
            self.at = 0
            self.step = min(self.step * 2, _LARGEST_READ)

    @property
    def position(self) -> int:
        return self.start + self.at

    def check_room(self, n: int) -> None:
        """Check that a file of known size can hold ``n`` more bytes, before anything is done with them."""
        size = self.source.size
        if (size is not None and n > size - self.position) or n > MAX_HEADER_BYTES:
            raise ModelFileError(
                f"{self.name} is damaged, or cut off in the middle of its header.", "Download it again."
            )

    def keep(self, n: int) -> None:
        """Check that ``n`` more bytes are there and are not too much to hold in memory."""
        self.check_room(n)
        self.n_kept += n
        if self.n_kept > MAX_KEPT_BYTES:
            raise ModelFileError(f"{self.name} holds more metadata than any real model.")

    def u32(self) -> int:
        self.need(4)
        (value,) = _U32.unpack_from(self.window, self.at)
        self.at += 4
        return int(value)

    def u64(self) -> int:
        self.need(8)
        (value,) = _U64.unpack_from(self.window, self.at)
        self.at += 8
        return int(value)

    def take(self, n: int) -> bytes:
        self.need(n)
        data = self.window[self.at : self.at + n]
        self.at += n
        return data

    def skip(self, n: int) -> None:
        """Pass over ``n`` bytes that are known to be in the file."""
        inside = min(n, len(self.window) - self.at)
        self.at += inside
        if n > inside:
            self.start += self.at + (n - inside) - 1
            self.window = b""
            self.at = 0
            self.take(1)

    def string(self, top: int, what: str) -> str:
        length = self.u64()
        if length > top:
            raise ModelFileError(f"{self.name} has {what} of {length:,} bytes.")
        self.keep(length)
        return self.take(length).decode("utf-8", "replace")

    # ------------------------------------------------------------------ values

    def value(self, key: str) -> Value:
        kind = self.u32()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string(MAX_STRING_BYTES, "a text")
        if kind != _ARRAY:
            raise ModelFileError(f"{self.name} has a value of unknown type {kind} for {shown(key)}.")
        self.need(_ARRAY_HEAD.size)
        item, length = _ARRAY_HEAD.unpack_from(self.window, self.at)
        self.at += _ARRAY_HEAD.size
        if item == _STRING:
            return self.strings(length)
        if item not in _SCALARS:
            raise ModelFileError(f"{self.name} has a list of unknown type {item} for {shown(key)}.")
        code = _SCALARS[item]
        n_bytes = length * struct.calcsize("<" + code)
        self.check_room(n_bytes)
        if length > MAX_ARRAY_KEPT:
            self.skip(n_bytes)
            return Skipped(length)
        self.keep(n_bytes)
        return list(struct.unpack(f"<{length}{code}", self.take(n_bytes)))

    def scalar(self, code: str) -> Scalar:
        packed = struct.Struct("<" + code)
        (value,) = packed.unpack(self.take(packed.size))
        return value  # type: ignore[no-any-return]  # struct gives exactly these types

    def strings(self, length: int) -> Value:
        self.n_strings += length
        if self.n_strings > MAX_STRINGS:
            raise ModelFileError(f"{self.name} has more strings in its lists than any real vocabulary.")
        self.check_room(8 * length)
        if length <= MAX_STRINGS_KEPT:
            return [self.string(MAX_STRING_BYTES, "a text") for _ in range(length)]
        self.skip_strings(length)
        return Skipped(length)

    def skip_strings(self, left: int) -> None:
        """Walk over ``left`` strings, a window at a time; this loop is what the time goes into."""
        unpack = _U64.unpack_from
        while left:
            self.need(8)
            window, at, passed = self.window, self.at, 0
            try:
                for passed in range(left):  # noqa: B007
                    at += 8 + unpack(window, at)[0]
                passed = left
            except (struct.error, OverflowError):
                pass  # the next string begins behind the window
            left -= passed
            self.check_room(at - self.at)
            self.skip(at - self.at)


def shown(key: str) -> str:
    """A key of the file in a message."""
    return repr(key if len(key) <= 60 else key[:57] + "...")
