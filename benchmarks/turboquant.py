"""The paper's `mse` and `prod` and the shipped formats on Gaussian data, beside the paper's figures.

    python -m benchmarks.turboquant

Distortion is the mean of |x - y|^2 / |x|^2. The slope is the mean of <q, y> over that of <q, x>, for q near
x: 1 without bias. "inner" is the mean of (<q, y> - <q, x>)^2 times dim, for |q| = |x| = 1.
"""

from __future__ import annotations

import numpy as np

from quantize.turboquant.lloyd_max import distortion
from quantize.turboquant.mse import Floats, Mse
from quantize.turboquant.prod import Prod
from quantize.turboquant.trellis import FORMATS, dequantize, quantize

DIM = 128
N = 4000
PAPER_MSE = {1: 0.363, 2: 0.1175, 3: 0.0345, 4: 0.0095}
PAPER_PROD = {1: 1.57, 2: 0.56, 3: 0.18, 4: 0.047}


def loss(x: Floats, y: Floats) -> float:
    """Relative squared error."""
    return float((((x - y) ** 2).sum(1) / (x**2).sum(1)).mean())


def slope(x: Floats, y: Floats) -> float:
    """What remains of inner products with x itself."""
    return float(((x * y).sum(1) / (x * x).sum(1)).mean())


def inner(x: Floats, y: Floats, rng: np.random.Generator) -> float:
    """Squared error of inner products with random directions, times the dimension."""
    unit = np.linalg.norm(x, axis=1)[:, None]
    q = rng.standard_normal(x.shape)
    q /= np.linalg.norm(q, axis=1)[:, None]
    return float((((q * (y - x) / unit).sum(1)) ** 2).mean() * x.shape[1])


def main() -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((N, DIM))
    print(f"{N:,} Gaussian vectors of {DIM}\n")
    print("bits  method        D      paper  theory  bound   slope   inner  paper")
    for bits in (1, 2, 3, 4):
        rows: list[tuple[str, Floats, float | None, float | None]] = []
        mse = Mse(DIM, bits)
        rows.append(("mse", mse.dequantize(mse.quantize(x)), PAPER_MSE[bits], None))
        for name, orthogonal in (("prod", False), ("prod, orth.", True)):
            prod = Prod(DIM, bits, orthogonal=orthogonal)
            rows.append((name, prod.dequantize(prod.quantize(x)), None, PAPER_PROD[bits]))
        if bits > 1:
            fmt = FORMATS[f"tq{bits}", DIM]
            coded = quantize(fmt, x[:1000].astype(np.float32))
            rows.append((f"tq{bits}", dequantize(fmt, coded).astype(np.float64), None, None))
        for name, y, paper_mse, paper_prod in rows:
            some = x[: len(y)]
            theory = f"{distortion(bits):.4f}" if name == "mse" else ""
            print(
                f"{bits:>4}  {name:<11} {loss(some, y):>7.4f}  {paper_mse or '':<6} "
                f"{theory:<6}  {4.0**-bits:.4f}  {slope(some, y):.4f}  "
                f"{inner(some, y, rng):>6.3f}  {paper_prod or ''}"
            )


if __name__ == "__main__":
    main()
