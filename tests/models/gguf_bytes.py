"""Builds GGUF headers byte by byte, right ones and wrong ones, without the reader's help."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)

_CODES = {
    UINT8: "B",
    INT8: "b",
    UINT16: "H",
    INT16: "h",
    UINT32: "I",
    INT32: "i",
    FLOAT32: "f",
    BOOL: "?",
    UINT64: "Q",
    INT64: "q",
    FLOAT64: "d",
}


def string(text: str | bytes) -> bytes:
    """Length and bytes."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def value(kind: int, data: Any) -> bytes:
    """Type and value; an array's data is (item type, items)."""
    return struct.pack("<I", kind) + _payload(kind, data)


def _payload(kind: int, data: Any) -> bytes:
    if kind == STRING:
        return string(data)
    if kind == ARRAY:
        item, items = data
        return struct.pack("<IQ", item, len(items)) + b"".join(_payload(item, x) for x in items)
    return struct.pack("<" + _CODES[kind], data)


def tensor(name: str, shape: tuple[int, ...], type_id: int, offset: int) -> bytes:
    """One entry of the list of tensors."""
    return (
        string(name)
        + struct.pack("<I", len(shape))
        + b"".join(struct.pack("<Q", n) for n in shape)
        + struct.pack("<IQ", type_id, offset)
    )


@dataclass
class Gguf:
    """A header in parts that a test can replace."""

    magic: bytes = b"GGUF"
    version: int = 3
    keys: list[tuple[str, bytes]] = field(
        default_factory=lambda: [("general.architecture", value(STRING, "llama"))]
    )
    tensors: list[bytes] = field(default_factory=list)
    n_keys: int | None = None
    n_tensors: int | None = None
    data: bytes = b""

    def key(self, name: str, kind: int, data: Any) -> Gguf:
        """Add a key."""
        self.keys.append((name, value(kind, data)))
        return self

    def header(self) -> bytes:
        """Without the data."""
        counts = struct.pack(
            "<QQ",
            len(self.tensors) if self.n_tensors is None else self.n_tensors,
            len(self.keys) if self.n_keys is None else self.n_keys,
        )
        body = b"".join(string(name) + data for name, data in self.keys) + b"".join(self.tensors)
        return self.magic + struct.pack("<I", self.version) + counts + body

    def build(self, alignment: int = 32) -> bytes:
        """The whole file."""
        header = self.header()
        return header + b"\0" * (-len(header) % alignment if self.tensors else 0) + self.data
