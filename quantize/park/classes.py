"""Which tokens are quantized finely and which coarsely.

Every token of a block has a class k; the step of the quantizer is multiplied by ``multiplier(k)``. Classes
are part of the block, so that a decoder needs not know why a token has its class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantize.errors import StateError
from quantize.park import rans
from quantize.park.tables import RATIO, library

WIDTHS_PER_CLASS = 4
"""Neighbouring classes differ by so many of the entropy coder's widths: a factor of 1.4."""
LARGEST = 8
"""Classes are -8 to 8: steps of 1/15 to 15 times that of class 0."""


def multiplier(number: int) -> float:
    """Of the step, for a class."""
    return float(RATIO ** (WIDTHS_PER_CLASS * number))


def nearest(multipliers: NDArray[np.float64]) -> NDArray[np.int32]:
    """The class of each wanted multiplier, all above 0."""
    wanted = np.log(multipliers) / (WIDTHS_PER_CLASS * np.log(RATIO))
    found: NDArray[np.int32] = np.clip(np.rint(wanted), -LARGEST, LARGEST).astype(np.int32)
    return found


@dataclass(frozen=True, slots=True)
class Run:
    """The tokens of one class, in the order of the classes."""

    number: int
    start: int
    end: int


@dataclass(frozen=True)
class Classes:
    """The classes of a stretch of tokens."""

    of_token: NDArray[np.int32]
    """Shape (tokens,)."""

    @classmethod
    def alike(cls, n: int) -> Self:
        """``n`` tokens of class 0."""
        return cls(np.zeros(n, np.int32))

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """The tokens sorted by class, the finest first; of one class as they stand."""
        return np.argsort(self.of_token, kind="stable")

    @cached_property
    def back(self) -> NDArray[np.intp]:
        """Where each token stands in ``order``."""
        found = np.empty(len(self.order), np.intp)
        found[self.order] = np.arange(len(self.order))
        return found

    @cached_property
    def runs(self) -> list[Run]:
        """The classes that occur, in order."""
        numbers, counts = np.unique(self.of_token, return_counts=True)
        ends = np.cumsum(counts)
        return [Run(int(k), int(e - c), int(e)) for k, c, e in zip(numbers, counts, ends, strict=True)]

    def pack(self) -> bytes:
        """Entropy-coded; nothing if all are 0. The first byte is the class that the others are counted
        from."""
        if not self.of_token.any():
            return b""
        middle = int(np.median(self.of_token))
        z = np.ascontiguousarray(self.of_token[None] - middle, np.int32)
        table, shift, _ = rans.choose(z)
        return bytes((middle + LARGEST, int(table[0]), int(shift[0]))) + rans.encode(z, table, shift)

    @classmethod
    def unpack(cls, data: bytes, n: int) -> Self:
        """What ``pack`` made of ``n`` tokens.

        Raises:
            StateError: if it did not.
        """
        if not data:
            return cls.alike(n)
        wrong = StateError("A block of the parked conversation has tokens of no class.")
        if len(data) < 3 or data[1] >= len(library().freq):
            raise wrong
        table, shift = (np.frombuffer(data, np.uint8, 1, i) for i in (1, 2))
        found = rans.decode(data[3:], n, table, shift)[0].astype(np.int64) + data[0] - LARGEST
        if np.abs(found).max(initial=0) > LARGEST:
            raise wrong
        return cls(found.astype(np.int32))
