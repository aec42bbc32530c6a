"""TurboQuant's algorithm `mse` as the paper has it (A. Zandieh et al., arXiv 2504.19874, algorithm 1).

A vector is divided by its norm and turned by a random rotation, so that each coordinate follows one known
distribution whatever the vector was; then each coordinate becomes the nearest level of the Lloyd-Max
codebook of that distribution. Reading turns the levels back and multiplies by the norm.

This is the reference that the shipped formats (``trellis.py``) are measured against, not what is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize.turboquant.lloyd_max import lloyd_max

Floats = NDArray[np.float64]


def random_rotation(dim: int, seed: int) -> Floats:
    """A rotation drawn evenly from all: Q of a Gaussian matrix (F. Mezzadri, Notices AMS 54, 2007)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))
    rotation: Floats = q * np.sign(np.diag(r))
    return rotation


@dataclass(frozen=True, slots=True)
class Coded:
    """Vectors as ``mse`` stores them."""

    norm: Floats
    """Shape (n,)."""
    index: NDArray[np.uint8]
    """Level of each coordinate, shape (n, dim)."""


class Mse:
    """``mse`` with ``bits`` bits per coordinate for vectors of ``dim`` values."""

    def __init__(self, dim: int, bits: int, seed: int = 0) -> None:
        self.dim = dim
        self.bits = bits
        self.rotation = random_rotation(dim, seed)
        self.levels: Floats = np.array(lloyd_max(bits, dim)) / np.sqrt(dim)
        """Ascending, for vectors of norm 1."""

    def quantize(self, x: Floats) -> Coded:
        """Vectors, shape (n, dim)."""
        norm = np.linalg.norm(x, axis=1)
        unit = x / np.where(norm > 0, norm, 1.0)[:, None]
        borders = (self.levels[1:] + self.levels[:-1]) / 2
        return Coded(norm, np.searchsorted(borders, unit @ self.rotation.T).astype(np.uint8))

    def dequantize(self, coded: Coded) -> Floats:
        """Shape (n, dim)."""
        return coded.norm[:, None] * (self.levels[coded.index] @ self.rotation)
