"""Codebooks of the trellis formats, made by ``benchmarks/train_levels.py``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Codebook:
    """Levels of one bit rate, as integers, and how the search for the path sees the data."""

    levels: NDArray[np.int8]
    """Shape (2, 4, 4): table, point, subset. tq2 uses the first table only."""
    sigma_part: float
    """A level stands for value / (sigma_part * root mean square + peak_part * largest value)."""
    peak_part: float
    fine: int
    """Values are compared with levels in steps of 2^-fine levels."""
    coarse: int
    """Squared distances are shifted right by this before they are added up."""


def _book(levels: str, sigma_part: float, peak_part: float, fine: int, coarse: int) -> Codebook:
    table = np.zeros(32, np.int8)
    given = np.array(levels.split(), np.int8)
    table[: given.size] = given
    return Codebook(table.reshape(2, 4, 4), sigma_part, peak_part, fine, coarse)


LEVELS = {
    2: _book(
        "-85 -57 -32 -10 10 32 60 122 -122 -60 -32 -10 10 32 57 85",
        0.0106421,
        0.00242994,
        0,
        3,
    ),
    3: _book(
        "-102 -78 -63 -49 -37 -25 -15 -5 5 15 26 37 49 64 85 127 "
        "-127 -85 -64 -49 -37 -26 -15 -5 5 15 25 37 49 63 78 102",
        0.00325591,
        0.00629477,
        1,
        2,
    ),
    4: _book(
        "-126 -108 -94 -83 -73 -64 -56 -49 -42 -36 -30 -24 -19 -13 -8 -3 "
        "3 8 13 19 24 30 36 42 49 56 64 73 83 94 108 126",
        0,
        0.0078061,
        2,
        2,
    ),
}
