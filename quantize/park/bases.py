"""From second moments to the arrays of a profile: predictors and bases.

All of it is linear: what the tokens tell of a group of rows, what the group below tells of what is left, and
the eigenvectors of the rest. Inside, rows are weighted: x becomes M^(1/2) x, so that a square error costs the
same whatever its direction. What is stored is for the rows themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.park.below import BELOW, group_below
from quantize.park.plain import Frame
from quantize.park.profile import Group

Doubles = NDArray[np.float64]
Arrays = dict[str, NDArray[Any]]

RIDGE = 1e-4
"""Of the mean variance of what is predicted from."""
USUAL_STEP = 0.05
"""Of the quantizer: for this one bases are made and choices are taken."""
NOISE = USUAL_STEP**2 / 25
"""Square error of what the decoder has of a residual. Components below it are zero."""
SMALL = USUAL_STEP**2 / 250
"""Variance of a direction that nothing is predicted from. The noise of the quantizer asks for no more: a
quantized row lies in the middle of what is quantized alike."""


@dataclass(frozen=True, slots=True)
class Residual:
    """What the tokens do not tell of a group, weighted."""

    weight: Doubles
    """M^(1/2), symmetric."""
    back: Doubles
    """Its inverse."""
    mean: Doubles
    predictor: Doubles | None
    covariance: Doubles


class Bases:
    """The arrays of one codec."""

    def __init__(
        self,
        codec: str,
        predicts: bool,
        groups: Sequence[Group],
        frame: Frame,
        sums: Mapping[str, Doubles],
        metric: Callable[[Group], Doubles],
    ) -> None:
        """
        Args:
            predicts: whether tokens and the group below are looked at.
            sums: ``Calibration``'s moments.
            metric: what a square error of a group's vector costs, shape (width, width).
        """
        self._codec, self._predicts, self._groups, self._frame = codec, predicts, groups, frame
        self._sums, self._metric = sums, metric
        self.residual = cache(self._residual)

    def _n(self, part: int) -> float:
        return float(self._sums[f"n.{part}"][0])

    def _features(self, part: int) -> tuple[Doubles, Doubles]:
        """Mean and covariance of what is known of the tokens."""
        n = self._n(part)
        mean = self._sums[f"f.{part}"] / n
        return mean, self._sums[f"ff.{part}"] / n - np.outer(mean, mean)

    def _with_features(self, index: int, weight: Doubles, mean: Doubles) -> Doubles:
        """Covariance of the features with the weighted rows."""
        part = self._groups[index].part
        f_mean, _ = self._features(part)
        return self._sums[f"{self._codec}.fx.{index}"] @ weight / self._n(part) - np.outer(f_mean, mean)

    def _residual(self, index: int) -> Residual:
        name, part = self._codec, self._groups[index].part
        weight, back = _root(self._metric(self._groups[index]))
        n = self._n(part)
        mean = weight @ self._sums[f"{name}.x.{index}"] / n
        covariance = weight @ self._sums[f"{name}.xx.{index}"] @ weight / n - np.outer(mean, mean)
        if not self._predicts:
            return Residual(weight, back, mean, None, covariance)
        _, ff = self._features(part)
        fx = self._with_features(index, weight, mean)
        # As it is stored, so that the rest is what the codec will find.
        predictor = _stored(_ridge(ff, fx, self._ridge_for(ff, fx, covariance, n)) @ back) @ weight
        half = predictor.T @ fx
        return Residual(
            weight, back, mean, predictor, covariance - half - half.T + predictor.T @ ff @ predictor
        )

    def _ridge_for(self, ff: Doubles, fx: Doubles, covariance: Doubles, n: float) -> float:
        """So much of the mean variance of the features that what is found in this text holds in others: the
        more, the less the features tell (Hoerl, Kennard and Baldwin, 1975). Layer 0 follows from the token
        in full."""
        first = _ridge(ff, fx, RIDGE)
        told = np.einsum("ij,ij->", first, fx) / max(np.trace(covariance), 1e-30)
        told = float(np.clip(told, 0.01, 1))
        return RIDGE + len(ff) / n * (1 - told) / told

    def plain(self, index: int) -> Arrays:
        """The arrays of a group that is not predicted from another."""
        found, part = self.residual(index), self._groups[index].part
        arrays = self._basis(index, found.covariance)
        mean = found.mean
        if found.predictor is not None:
            arrays[f"{self._codec}.predictor.{index}"] = (found.predictor @ found.back).astype(np.float16)
            mean = mean - self._features(part)[0] @ found.predictor
        arrays[f"{self._codec}.mean.{index}"] = (mean @ found.back).astype(np.float32)
        return arrays

    def predicted(self, index: int) -> Arrays:
        """The arrays that are added or replaced if it is predicted from the group below; none if there is no
        such group."""
        below = group_below(self._groups, index) if self._predicts else None
        if below is None:
            return {}
        this, other = self.residual(index), self.residual(below)
        together = self._together(index, below)
        told = _ridge(other.covariance, together, RIDGE, SMALL)
        stored = _stored(other.weight @ told @ this.back)
        told = other.back @ stored @ this.weight
        known = _known(other.covariance)
        half = told.T @ _known_with(other.covariance, known, together)
        rest = this.covariance - half - half.T + told.T @ known @ told
        return {
            f"{self._codec}.{BELOW}.{index}": stored.astype(np.float16),
            **self._basis(index, rest),
        }

    def _basis(self, index: int, covariance: Doubles) -> Arrays:
        """Columns are what each component adds to the rows, the widest component first; and what all of them
        are to be multiplied by, which keeps f16 away from its limits."""
        _, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        columns = self.residual(index).back @ vectors[:, ::-1]
        scale = float(np.abs(columns).max())
        return {
            f"{self._codec}.basis.{index}": (columns / scale).astype(np.float16),
            f"{self._codec}.scale.{index}": np.array([scale], np.float32),
        }

    def _together(self, index: int, below: int) -> Doubles:
        """Covariance of the residuals of two groups, shape (width below, width)."""
        part = self._groups[index].part
        this, other = self.residual(index), self.residual(below)
        assert this.predictor is not None
        assert other.predictor is not None
        _, ff = self._features(part)
        raw = self._sums[f"{self._codec}.bx.{index}"] / self._n(part)
        x = other.weight @ raw @ this.weight - np.outer(other.mean, this.mean)
        fx = self._with_features(index, this.weight, this.mean)
        fb = self._with_features(below, other.weight, other.mean)
        x = x - other.predictor.T @ fx - fb.T @ this.predictor
        return x + other.predictor.T @ ff @ this.predictor


def _ridge(xx: Doubles, xy: Doubles, share: float, small: float = 1e-30) -> Doubles:
    """The linear map from x to y, shape of ``xy``."""
    more = share * np.trace(xx) / len(xx) + small
    found: Doubles = np.linalg.solve(xx + more * np.eye(len(xx)), xy)
    return found


def _known(covariance: Doubles) -> Doubles:
    """Covariance of what a decoder knows of rows: every component less the noise of the quantizer."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    found: Doubles = (vectors * np.maximum(values - NOISE, 0)) @ vectors.T
    return found


def _known_with(covariance: Doubles, known: Doubles, together: Doubles) -> Doubles:
    """Covariance of what a decoder knows of rows with what goes together with the rows themselves."""
    regular = covariance + 1e-9 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return known @ np.linalg.solve(regular, together)


def _stored(values: Doubles) -> Doubles:
    """As they come back from a file."""
    return values.astype(np.float16).astype(np.float64)


def _root(metric: Doubles) -> tuple[Doubles, Doubles]:
    """The symmetric square root of a positive definite matrix, and the inverse of that."""
    values, vectors = np.linalg.eigh((metric + metric.T) / 2)
    roots = np.sqrt(np.maximum(values, 1e-12 * values.max()))
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T
