"""TurboQuant's algorithm `prod` as the paper has it (arXiv 2504.19874, algorithm 2).

``mse`` shortens inner products: a level is the mean of the values that it stands for, so the result lies
nearer to the origin, by 1 - D on average where D is the distortion. ``prod`` spends one of its bits per
coordinate on what ``mse`` left over, r, in a form whose inner product has no bias (QJL, A. Zandieh et al.,
arXiv 2406.03482)::

    <q, x> ~ <q, mse(x)> + |r| sqrt(pi/2) / dim * <S q, sign(S r)>

S is Gaussian in the paper. An orthogonal S takes the factor sqrt(pi/2) / sqrt(dim) and has less variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize.turboquant.mse import Coded, Floats, Mse, random_rotation


@dataclass(frozen=True, slots=True)
class CodedProd:
    """Vectors as ``prod`` stores them."""

    base: Coded | None
    """All bits but one; None where there is only one."""
    rest: Floats
    """Norm of what the base left over, shape (n,)."""
    positive: NDArray[np.bool_]
    """Signs of S r, shape (n, dim)."""


class Prod:
    """``prod`` with ``bits`` bits per coordinate for vectors of ``dim`` values."""

    def __init__(self, dim: int, bits: int, seed: int = 0, *, orthogonal: bool = False) -> None:
        """
        Args:
            orthogonal: take a rotation as S instead of the paper's Gaussian matrix.
        """
        self.dim = dim
        self.bits = bits
        self.base = Mse(dim, bits - 1, seed) if bits > 1 else None
        if orthogonal:
            self.sketch = random_rotation(dim, seed + 1)
            self.factor = np.sqrt(np.pi / 2 / dim)
        else:
            self.sketch = np.random.default_rng(seed + 1).standard_normal((dim, dim))
            self.factor = np.sqrt(np.pi / 2) / dim

    def quantize(self, x: Floats) -> CodedProd:
        """Vectors, shape (n, dim)."""
        base = self.base.quantize(x) if self.base else None
        rest = x - self.base.dequantize(base) if self.base and base else x
        return CodedProd(base, np.linalg.norm(rest, axis=1), rest @ self.sketch.T >= 0)

    def dequantize(self, coded: CodedProd) -> Floats:
        """Vectors whose inner product with any q is the estimate, shape (n, dim)."""
        sign = np.where(coded.positive, 1.0, -1.0)
        out: Floats = self.factor * coded.rest[:, None] * (sign @ self.sketch)
        if self.base and coded.base:
            out += self.base.dequantize(coded.base)
        return out
