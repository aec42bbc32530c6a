"""Lloyd-Max codebooks: the scalar quantizers with the least squared error for a known distribution.

S. P. Lloyd, IEEE Trans. Inform. Theory 28, 1982; J. Max, IRE Trans. 6, 1960. Every level is the mean of the
values nearest to it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CELLS = 1 << 17
_ROUNDS = 20_000
_STILL = 1e-12


def _density(dim: int) -> tuple[Floats, Floats]:
    """Middle and probability of each of many thin slices of one coordinate, times sqrt(dim), of a
    direction in ``dim`` dimensions; 0 stands for infinitely many, the normal distribution."""
    end = min(np.sqrt(dim), 9.0) if dim else 9.0
    x = (np.arange(_CELLS) + 0.5) / _CELLS * 2 * end - end
    # A coordinate t of a direction has the density (1 - t^2)^((dim - 3) / 2), a Beta distribution.
    p = (1 - x * x / dim).clip(0) ** ((dim - 3) / 2) if dim else np.exp(-x * x / 2)
    return x, p / p.sum()


@cache
def lloyd_max(bits: int, dim: int = 0) -> tuple[float, ...]:
    """The 2^bits levels, ascending, for a coordinate of a random direction in ``dim`` dimensions.

    Args:
        dim: at least 3; 0 gives the limit, the standard normal distribution.

    Returns:
        levels in units of 1 / sqrt(dim).
    """
    x, p = _density(dim)
    mass, moment = (np.concatenate([[0.0], np.cumsum(part)]) for part in (p, p * x))
    edges = np.append(x, -x[0]) - (x[1] - x[0]) / 2
    edges[-1] = -edges[0]
    levels = np.interp((np.arange(1 << bits) + 0.5) / (1 << bits), mass[1:], x)
    for _ in range(_ROUNDS):
        border = np.concatenate([edges[:1], (levels[1:] + levels[:-1]) / 2, edges[-1:]])
        new = np.diff(np.interp(border, edges, moment)) / np.diff(np.interp(border, edges, mass))
        moved, levels = float(np.abs(new - levels).max()), new
        if moved < _STILL:
            break
    levels = (levels - levels[::-1]) / 2
    return tuple(float(v) for v in levels)


def distortion(bits: int, dim: int = 0) -> float:
    """Mean squared error of that codebook for a value of variance 1."""
    x, p = _density(dim)
    levels = np.array(lloyd_max(bits, dim))
    nearest = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, x)]
    return float((p * (x - nearest) ** 2).sum())
