"""The distributions that quantized components are coded with.

A component of a cache, divided by the quantizer's step, is close to a generalized Gaussian
``p(x) ~ exp(-|x / a|^shape)``: between Laplace (shape 1) and Gauss (2). The library holds that
distribution, summed over the quantizer's bins, for a grid of widths and shapes; a component names the one
that codes it in the fewest bits, which takes one byte instead of a table of its own.

Bins are those of a quantizer with a dead zone (Sullivan, 1996): ``z = sign(x) floor(|x| + BIAS)``.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PROB_BITS = 12
PROB_SUM = 1 << PROB_BITS
MAX = 32
"""Magnitudes from here on are escapes."""
SYMBOLS = 2 * MAX + 1
BIAS = 0.35
"""Of the quantizer: values up to 0.65 steps become 0."""

SHAPES = (0.7, 1.0, 1.4, 2.0)
N_WIDTHS = 56
WIDEST = 12.0
"""Standard deviation in steps; wider components are shifted down first."""
NARROWEST = 0.12
RATIO = (WIDEST / NARROWEST) ** (1 / (N_WIDTHS - 1))
"""Of neighbouring widths."""


class _Pointers(ctypes.Structure):
    """``st_park_tables``."""

    _fields_ = (
        ("freq", ctypes.c_void_p),
        ("cum", ctypes.c_void_p),
        ("slot", ctypes.c_void_p),
        ("n_tables", ctypes.c_int64),
    )


@dataclass(frozen=True)
class Library:
    """All distributions."""

    freq: NDArray[np.uint16]
    """Shape (n, SYMBOLS); rows sum to ``PROB_SUM``."""
    cum: NDArray[np.uint16]
    slot: NDArray[np.uint8]
    """Shape (n, PROB_SUM): the symbol of each slot."""
    bits: NDArray[np.float32]
    """Shape (SYMBOLS, n): what each symbol costs."""
    delta1: NDArray[np.float32]
    """Shape (n,): where the mass of bin 1 lies above 1, in steps."""
    delta2: NDArray[np.float32]
    """The same for the bins above."""
    digest: str
    """Of the frequencies. A file that was coded with others cannot be read."""

    @property
    def pointers(self) -> _Pointers:
        """For the native library; valid as long as this object is."""
        return _Pointers(self.freq.ctypes.data, self.cum.ctypes.data, self.slot.ctypes.data, len(self.freq))


@functools.cache
def library() -> Library:
    """Make the distributions, once."""
    probabilities, one, more = [], [], []
    for shape in SHAPES:
        for width in np.geomspace(NARROWEST, WIDEST, N_WIDTHS):
            p, d1, d2 = _bins(shape, float(width))
            probabilities.append(p)
            one.append(d1)
            more.append(d2)
    freq = _frequencies(np.array(probabilities))
    cum = np.zeros_like(freq)
    cum[:, 1:] = np.cumsum(freq[:, :-1], axis=1)
    symbols = np.arange(SYMBOLS, dtype=np.uint8)
    slot = np.stack([np.repeat(symbols, row) for row in freq])
    return Library(
        freq,
        cum,
        slot,
        np.ascontiguousarray(-np.log2(freq.T / PROB_SUM), np.float32),
        np.array(one, np.float32),
        np.array(more, np.float32),
        hashlib.blake2b(freq.tobytes(), digest_size=8).hexdigest(),
    )


def _bins(shape: float, width: float) -> tuple[NDArray[np.float64], float, float]:
    """Probability of each symbol, and where the mass of bins 1 and 2 lies, for one distribution."""
    per_step = 64
    edge = 1 - BIAS
    # Fine enough also where the distribution is much narrower than a step.
    x = (np.arange(1, (MAX + 1) * per_step * 4) - 0.5) / (4 * per_step)
    density = np.exp(-((x / (width * _scale(shape))) ** shape))
    bins = np.floor(x + BIAS).astype(np.int64)
    mass = np.bincount(np.minimum(bins, MAX), density, MAX + 1)
    first = np.bincount(np.minimum(bins, MAX), density * x, MAX + 1)
    p = np.concatenate([mass[:0:-1], [2 * mass[0]], mass[1:]])
    d1 = first[1] / mass[1] - 1 if mass[1] > 1e-200 else edge - 1
    d2 = first[2] / mass[2] - 2 if mass[2] > 1e-200 else edge - 1
    return p / p.sum(), float(d1), float(d2)


def _scale(shape: float) -> float:
    """``a`` of a generalized Gaussian with unit variance: sqrt(gamma(1 / shape) / gamma(3 / shape))."""
    from math import gamma, sqrt

    return sqrt(gamma(1 / shape) / gamma(3 / shape))


def _frequencies(p: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Whole numbers of at least 1 that sum to ``PROB_SUM``, close to ``p``; shape as ``p``."""
    free = PROB_SUM - SYMBOLS
    freq = 1 + np.floor(p * free).astype(np.int64)
    freq[:, MAX] += PROB_SUM - freq.sum(axis=1)  # what is left goes to 0, which has most
    return freq.astype(np.uint16)
