"""The paper's two algorithms reach the paper's figures."""

from __future__ import annotations

import numpy as np
import pytest

from quantize.turboquant.lloyd_max import distortion, lloyd_max
from quantize.turboquant.mse import Mse, random_rotation
from quantize.turboquant.prod import Prod
from quantize.turboquant.trellis import FORMATS, dequantize, quantize

DIM = 128
X = np.random.default_rng(11).standard_normal((2000, DIM))
D_MSE = {1: 0.363, 2: 0.1175, 3: 0.0345, 4: 0.0095}
CENTROIDS = {
    1: (0.7979,),
    2: (0.4528, 1.5104),
    3: (0.2451, 0.7560, 1.3439, 2.1519),
    4: (0.1284, 0.3880, 0.6567, 0.9422, 1.2561, 1.6179, 2.0689, 2.7325),
}


def loss(x: np.ndarray, y: np.ndarray) -> float:
    return float((((x - y) ** 2).sum(1) / (x**2).sum(1)).mean())


@pytest.mark.parametrize("bits", D_MSE)
def test_the_codebooks_are_those_of_the_normal_distribution(bits: int) -> None:
    levels = lloyd_max(bits)
    assert levels[len(levels) // 2 :] == pytest.approx(CENTROIDS[bits], abs=2e-4)
    assert distortion(bits) == pytest.approx(D_MSE[bits], rel=0.005)
    assert distortion(bits, DIM) < distortion(bits)


@pytest.mark.parametrize("bits", D_MSE)
def test_mse_reaches_the_distortion_of_the_paper(bits: int) -> None:
    mse = Mse(DIM, bits)
    assert loss(X, mse.dequantize(mse.quantize(X))) == pytest.approx(D_MSE[bits], rel=0.03)


def test_a_rotation_makes_every_vector_alike() -> None:
    spike = np.zeros((3, DIM))
    spike[0, 5], spike[1, 7] = 3.0, -1.0  # the third stays zero
    mse = Mse(DIM, 4)
    y = mse.dequantize(mse.quantize(spike))
    assert loss(spike[:2], y[:2]) == pytest.approx(D_MSE[4], rel=0.5)
    assert not y[2].any()
    r = random_rotation(DIM, 3)
    np.testing.assert_allclose(r @ r.T, np.eye(DIM), atol=1e-12)


@pytest.mark.parametrize("bits", D_MSE)
def test_mse_shortens_inner_products_and_prod_does_not(bits: int) -> None:
    """The bias of ``mse`` is its distortion; that of ``prod`` is none."""

    def slopes(y: np.ndarray) -> np.ndarray:
        return np.asarray((X * y).sum(1) / (X * X).sum(1))

    mse = Mse(DIM, bits)
    assert 1 - slopes(mse.dequantize(mse.quantize(X))).mean() == pytest.approx(D_MSE[bits], rel=0.05)
    for orthogonal in (False, True):
        biases = []
        for seed in range(6):  # one S has a small bias of its own; the mean over S has none
            prod = Prod(DIM, bits, seed, orthogonal=orthogonal)
            biases.append(slopes(prod.dequantize(prod.quantize(X))).mean() - 1)
        assert abs(np.mean(biases)) < 0.1 * D_MSE[bits]


@pytest.mark.parametrize(("bits", "paper"), [(1, 1.57), (2, 0.56), (3, 0.18), (4, 0.047)])
def test_prod_reaches_the_inner_product_error_of_the_paper(bits: int, paper: float) -> None:
    rng = np.random.default_rng(5)
    q = rng.standard_normal(X.shape)
    q /= np.linalg.norm(q, axis=1)[:, None]
    prod = Prod(DIM, bits)
    unit = X / np.linalg.norm(X, axis=1)[:, None]
    error = ((q * (prod.dequantize(prod.quantize(unit)) - unit)).sum(1) ** 2).mean() * DIM
    assert error == pytest.approx(paper, rel=0.15)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_shipped_formats_lose_less_than_the_paper(bits: int) -> None:
    """At the same bits per value, the scale counted."""
    fmt = FORMATS[f"tq{bits}", DIM]
    x = X[:300].astype(np.float32)
    y = dequantize(fmt, quantize(fmt, x))
    assert 4.0**-bits < loss(x, y) < 0.85 * D_MSE[bits]
