"""The block of a stretch of tokens: its components that are not all zero, entropy-coded.

Tokens are quantized with steps of their own, which fall into classes (``classes.py``). A component is
described once for all of them, by the shape and the width of its distribution in units of the step of class
0; in class k it is narrower by the step of that class. The tokens of a class stand together in the code.

::

    block = u16 bytes of the mask, u16 components that are there, u16 bytes of the classes,
            mask (a bit for each component up to the last that is there), the classes,
            the shape of each component, the width of each, and for each class that occurs, from the finest
            on: u32 bytes of the code, the code

Blocks whose tokens are all of class 0 have no bytes for classes.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantize.errors import StateError
from quantize.park import rans
from quantize.park.classes import LARGEST, WIDTHS_PER_CLASS, Classes, Run, multiplier
from quantize.park.tables import N_WIDTHS, RATIO, SHAPES, WIDEST, library

_HEAD = struct.Struct("<HHH")
_CODE = struct.Struct("<I")
_PER_OCTAVE = float(np.log(2) / np.log(RATIO))
"""Widths."""
_BELOW = WIDTHS_PER_CLASS * LARGEST + 8
"""A width is stored with so much added: components that only the finest classes see are narrower than any
table."""
_TRIED = _BELOW + N_WIDTHS + WIDTHS_PER_CLASS * LARGEST
"""Widths among which is chosen by what the code would take; wider ones are taken from the standard
deviation."""
_DAMAGED = "A block of the parked conversation has the wrong components."

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Coded:
    """The components that are there."""

    kept: NDArray[np.intp]
    """Their numbers, ascending."""
    z: rans.Numbers
    """Their values in steps of the token's class, shape (len(kept), tokens); tokens in the order of the
    classes."""
    classes: Classes
    shape: Bytes
    width: Bytes

    @classmethod
    def of(cls, y: NDArray[np.float32], step: float, classes: Classes) -> Self:
        """Quantize all components.

        Args:
            y: shape (components, tokens), the tokens in the order of the classes; it is overwritten.
            step: of class 0.
        """
        for run in classes.runs:
            if run.number:
                y[:, run.start : run.end] *= np.float32(1 / multiplier(run.number))
        z = rans.quantize(y, step)
        kept = np.flatnonzero(rans.squares(z))
        z = z[kept]
        shape, width = _choose(z, classes)
        return cls(kept, z, classes, shape, width)

    def values(self, step: float) -> NDArray[np.float32]:
        """Of the components that are there, shape (len(kept), tokens), in the order of the classes."""
        y = np.empty(self.z.shape, np.float32)
        for run in self.classes.runs:
            z = np.ascontiguousarray(self.z[:, run.start : run.end])
            own = step * multiplier(run.number)
            y[:, run.start : run.end] = rans.dequantize(z, own, *_tables(self.shape, self.width, run))
        return y

    def pack(self) -> bytes:
        """The block."""
        if not len(self.kept):
            return _HEAD.pack(0, 0, 0)
        bits = np.zeros(int(self.kept[-1]) + 1, np.uint8)
        bits[self.kept] = 1
        mask, classes = np.packbits(bits), self.classes.pack()
        pieces = [_HEAD.pack(len(mask), len(self.kept), len(classes)), mask.tobytes(), classes]
        pieces += [self.shape.tobytes(), self.width.tobytes()]
        for run in self.classes.runs:
            z = np.ascontiguousarray(self.z[:, run.start : run.end])
            code = rans.encode(z, *_tables(self.shape, self.width, run))
            pieces += [_CODE.pack(len(code)), code]
        return b"".join(pieces)

    @classmethod
    def unpack(cls, data: bytes, n: int, width: int) -> Self:
        """What ``pack`` made of ``n`` tokens and ``width`` components.

        Raises:
            StateError: if it did not.
        """
        if len(data) < _HEAD.size:
            raise StateError("A block of the parked conversation is too short.")
        n_mask, n_kept, n_classes = _HEAD.unpack_from(data)
        at = _HEAD.size
        kept = np.flatnonzero(np.unpackbits(np.frombuffer(data[at : at + n_mask], np.uint8)))
        at += n_mask
        fits = len(kept) == n_kept and (not n_kept or kept[-1] < width)
        if not fits or len(data) < at + n_classes + 2 * n_kept:
            raise StateError(_DAMAGED)
        if not n_kept:
            nothing = np.empty(0, np.uint8)
            return cls(kept, np.empty((0, n), np.int32), Classes.alike(n), nothing, nothing)
        classes = Classes.unpack(data[at : at + n_classes], n)
        at += n_classes
        shape = np.frombuffer(data, np.uint8, n_kept, at)
        widths = np.frombuffer(data, np.uint8, n_kept, at + n_kept)
        at += 2 * n_kept
        if shape.max() >= len(SHAPES):
            raise StateError("A block of the parked conversation names a distribution that there is not.")
        z = np.empty((n_kept, n), np.int32)
        for run in classes.runs:
            if len(data) < at + _CODE.size:
                raise StateError(_DAMAGED)
            (size,) = _CODE.unpack_from(data, at)
            at += _CODE.size
            if len(data) < at + size:
                raise StateError(_DAMAGED)
            tables = _tables(shape, widths, run)
            z[:, run.start : run.end] = rans.decode(data[at : at + size], run.end - run.start, *tables)
            at += size
        if at != len(data):
            raise StateError(_DAMAGED)
        return cls(kept, z, classes, shape, widths)


def _tables(shape: Bytes, width: Bytes, run: Run) -> tuple[Bytes, Bytes]:
    """The table and the shift of each component in a class."""
    own = width.astype(np.int64) - _BELOW - WIDTHS_PER_CLASS * run.number
    shift = np.clip(np.ceil((own - (N_WIDTHS - 1)) / _PER_OCTAVE), 0, rans.MAX_SHIFT)
    index = np.clip(np.rint(own - _PER_OCTAVE * shift), 0, N_WIDTHS - 1)
    return (shape * N_WIDTHS + index).astype(np.uint8), shift.astype(np.uint8)


@functools.lru_cache(maxsize=2 * LARGEST + 1)
def _costs(number: int) -> NDArray[np.float32]:
    """Bits of each symbol in a class for every shape and every width that is tried, shape
    (SYMBOLS, shapes * widths)."""
    widths = np.clip(np.arange(_TRIED) - _BELOW - WIDTHS_PER_CLASS * number, 0, N_WIDTHS - 1)
    table = (np.arange(len(SHAPES))[:, None] * N_WIDTHS + widths).reshape(-1)
    return np.ascontiguousarray(library().bits[:, table])


def _choose(z: rans.Numbers, classes: Classes) -> tuple[Bytes, Bytes]:
    """Shape and width of each component: those that code it best."""
    runs = [(run, np.ascontiguousarray(z[:, run.start : run.end])) for run in classes.runs]
    energy = sum(
        (rans.squares(part) * np.float32(multiplier(run.number) ** 2) for run, part in runs), start=0.0
    )
    deviation = np.sqrt(np.maximum(np.asarray(energy) / max(z.shape[1], 1), 1e-18))
    wide = N_WIDTHS - 1 + np.log(deviation / WIDEST) / np.log(RATIO)
    cost = np.zeros((len(z), len(SHAPES) * _TRIED), np.float32)
    judged = np.zeros(len(z), bool)
    for run, part in runs:
        inside = wide - WIDTHS_PER_CLASS * run.number <= N_WIDTHS - 1  # those are not shifted
        if inside.any():
            counts = rans.count(np.ascontiguousarray(part[inside]))
            cost[inside] += counts @ _costs(run.number)
            judged |= inside
    shape, width = np.divmod(cost.argmin(axis=1), _TRIED)
    shape = np.where(judged, shape, len(SHAPES) - 1)
    width = np.where(judged, width, np.rint(wide) + _BELOW)
    return shape.astype(np.uint8), np.clip(width, 0, 255).astype(np.uint8)
