"""The block of a stretch of tokens: its components that are not all zero, entropy-coded.

::

    block = u16 bytes of the mask, u16 components that are there, mask (a bit for each component up to the
            last that is there), the table of each, the shift of each, the code
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantize.errors import StateError
from quantize.park import rans
from quantize.park.tables import library

_HEAD = struct.Struct("<HH")


@dataclass(frozen=True, slots=True)
class Coded:
    """The components that are there."""

    kept: NDArray[np.intp]
    """Their numbers, ascending."""
    z: rans.Numbers
    """Their values in steps, shape (len(kept), tokens)."""
    table: NDArray[np.uint8]
    shift: NDArray[np.uint8]

    @classmethod
    def of(cls, z: rans.Numbers) -> Self:
        """Of all components, shape (components, tokens)."""
        kept = np.flatnonzero(rans.squares(z))
        z = z[kept]
        table, shift, _ = rans.choose(z)
        return cls(kept, z, table, shift)

    def values(self, step: float) -> NDArray[np.float32]:
        """Of the components that are there, shape (len(kept), tokens)."""
        return rans.dequantize(self.z, step, self.table, self.shift)

    def pack(self) -> bytes:
        """The block."""
        mask = np.zeros(0, np.uint8)
        code = b""
        if len(self.kept):
            bits = np.zeros(int(self.kept[-1]) + 1, np.uint8)
            bits[self.kept] = 1
            mask = np.packbits(bits)
            code = rans.encode(self.z, self.table, self.shift)
        head = _HEAD.pack(len(mask), len(self.kept))
        return b"".join((head, mask.tobytes(), self.table.tobytes(), self.shift.tobytes(), code))

    @classmethod
    def unpack(cls, data: bytes, n: int, width: int) -> Self:
        """What ``pack`` made of ``n`` tokens and ``width`` components.

        Raises:
            StateError: if it did not.
        """
        if len(data) < _HEAD.size:
            raise StateError("A block of the parked conversation is too short.")
        n_mask, n_kept = _HEAD.unpack_from(data)
        at = _HEAD.size
        kept = np.flatnonzero(np.unpackbits(np.frombuffer(data[at : at + n_mask], np.uint8)))
        at += n_mask
        fits = len(kept) == n_kept and (not n_kept or kept[-1] < width)
        if not fits or len(data) < at + 2 * n_kept:
            raise StateError("A block of the parked conversation has the wrong components.")
        table = np.frombuffer(data[at : at + n_kept], np.uint8)
        shift = np.frombuffer(data[at + n_kept : at + 2 * n_kept], np.uint8)
        if not n_kept:
            return cls(kept, np.empty((0, n), np.int32), table, shift)
        if table.max() >= len(library().freq):
            raise StateError("A block of the parked conversation names a distribution that there is not.")
        return cls(kept, rans.decode(data[at + 2 * n_kept :], n, table, shift), table, shift)
