"""What an error in a layer costs: KLD for each squared unit of noise, measured layer by layer.

``sensitivity.py`` says how errors of K and V of one layer compare with each other. How much an error of a
layer's output changes what the model says is measured: K and V of the layer get noise like that of a coarse
quantizer, and the KLD of what follows is compared with that of noise too small to matter. What that changes
is the model's own rounding (8-bit weights round their inputs to 8 bits, too); it is in every measurement and
no property of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.park.classes import multiplier
from quantize.park.codec import exact_cells
from quantize.park.importance import Importance
from quantize.park.plain import SIDES, Frame, Source
from quantize.park.probe import Probe
from quantize.park.profile import Group
from quantize.park.sensitivity import metric

Doubles = NDArray[np.float64]

SHARE = 0.3
"""Of what a layer's rows vary by, weighted: so much of it the noise is."""
FLOOR_NOISE = 2.5e-4
"""Of a value: half a rounding step of f16."""
N_FLOOR = 3
"""Measurements of noise that does not matter."""
CAREFUL = 0.1
"""Of the KLD of noise that does not matter: an effect that is not above it is taken for so large."""


def weigh(
    probe: Probe,
    frame: Frame,
    sums: Mapping[str, Doubles],
    queries: Mapping[str, NDArray[Any]],
    gains: dict[str, NDArray[np.float32]],
    floor: float,
) -> Iterator[float]:
    """Fill ``gains`` (``weight.PART``, shape (layers,)): sqrt(KLD for each squared unit of noise).

    Args:
        floor: KLD of noise that does not matter (``noise_floor``).
    """
    parts = frame.geometry.parts
    total = sum(len(layers) for layers in parts)
    rng = np.random.default_rng(1)
    source = Source(probe.state, frame)
    importance = Importance(source, queries)
    done = 0
    for p, layers in enumerate(parts):
        found = gains[f"weight.{p}"] = np.ones(len(layers), np.float32)
        n = source.n_cells(p)
        for layer in range(len(layers)):
            group = Group(p, tuple((layer, side) for side in SIDES if frame.width(p, layer, side)))
            form = metric(frame, sums, {f"weight.{p}": np.ones(len(layers), np.float32)}, group)
            steps = np.array([multiplier(int(k)) for k in importance.classes(p, (layer,))])
            data, square = _with_noise(probe, frame, group, form, steps, rng) if n else (None, 0.0)
            if data is not None and square > 0:
                kld = probe.kld(data)
                found[layer] = np.sqrt(max(kld - floor, CAREFUL * max(floor, kld), 1e-9) / square)
            done += 1
            yield done / total


def noise_floor(probe: Probe) -> float:
    """KLD of noise that does not matter, the mean of some measurements."""
    rng = np.random.default_rng(2)
    return sum(probe.kld(_rounded(probe, rng)) for _ in range(N_FLOOR)) / N_FLOOR


def _rounded(probe: Probe, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The f16 state with noise on the V of all layers that is half a rounding step."""
    data = probe.state.data.copy()
    for part in probe.state.parts:
        for rows in part.v:
            at = slice(rows.offset, rows.offset + rows.size)
            values = data[at].copy().view(np.float16).astype(np.float32)
            values *= 1 + FLOOR_NOISE * rng.standard_normal(values.shape, np.float32)
            data[at] = values.astype(np.float16).view(np.uint8)
    return data


def _with_noise(
    probe: Probe, frame: Frame, group: Group, form: Doubles, steps: Doubles, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], float]:
    """The state with noise on K and V of one layer, the same in all weighted components but where a component
    varies less than that; and its mean square for a component and a step of 1."""
    source = Source(probe.state, frame)
    n = source.n_cells(group.part)
    first, last = exact_cells(n)
    x = np.concatenate([source.plain(group.part, *m, 0, n) for m in group.members], axis=1).astype(np.float64)
    values, vectors = np.linalg.eigh(form)
    root = (vectors * np.sqrt(values)) @ vectors.T
    inside = slice(first, n - last)
    if first + last >= n:
        return probe.state.data, 0.0
    variance, basis = np.linalg.eigh(np.cov((x[inside] @ root).T))
    variance = np.maximum(variance, 0)
    level = _level(variance)
    noise = np.zeros(x.shape)
    spread = np.sqrt(np.minimum(variance, level))
    scaled = steps[inside] / np.sqrt(np.mean(steps[inside] ** 2))
    noise[inside] = rng.standard_normal(x[inside].shape) * spread * scaled[:, None]
    changed = (x + noise @ basis.T @ np.linalg.inv(root)).astype(np.float32)
    return _put(probe, frame, group, changed), float(np.mean(spread**2) / np.mean(steps[inside] ** 2))


def _level(variance: Doubles) -> float:
    """The noise in each component that is ``SHARE`` of all variance."""
    low, high = 0.0, float(variance.max())
    for _ in range(50):
        middle = (low + high) / 2
        if np.minimum(variance, middle).sum() < SHARE * variance.sum():
            low = middle
        else:
            high = middle
    return high


def _put(probe: Probe, frame: Frame, group: Group, x: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The f16 state with other rows in one layer."""
    data = probe.state.data.copy()
    part = probe.state.parts[group.part]
    for layer, side, where in group.slices(frame):
        rows = (part.k if side == "k" else part.v)[layer]
        values = np.ascontiguousarray(x[:, where])
        if side == "k":
            at, heads = probe.state.positions(group.part), frame.heads(group.part, layer)
            frame.rope_of(group.part, layer).turn(values, at, heads, back=False)
        data[rows.offset : rows.offset + rows.size] = values.astype(np.float16).reshape(-1).view(np.uint8)
    return data
