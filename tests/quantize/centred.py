"""Made constants of K for tests."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from quantize.centring import Centring, LayerCentring, pairs, rounded
from quantize.geometry import Geometry
from quantize.rope import Ropes


def made_centring(
    geometry: Geometry,
    ropes: Ropes,
    seed: int = 0,
    *,
    size: float = 1.0,
    scaled: bool = True,
    most_whole: int = 4,
    layers: Collection[int] | None = None,
) -> Centring:
    """Random constants and factors; some heads keep the constant in their first rows.

    Args:
        size: RMS of the constants.
        most_whole: largest number of first rows that keep theirs.
        layers: numbers of the layers that are centred; None for all.
    """
    rng = np.random.default_rng(seed)
    made: dict[tuple[int, int], LayerCentring] = {}
    for part, of_part in enumerate(geometry.parts):
        for index, heads in enumerate(of_part):
            if layers is not None and geometry.number(part, index) not in layers:
                continue
            shape = (heads.n_head_kv, heads.head_dim_k)
            centre = (size * rng.standard_normal(shape)).astype(np.float32)
            centre[:, rng.random(shape[1]) < 0.2] = 0
            scale = np.ones(shape, np.float32)
            if scaled:
                first, second, _ = pairs(ropes[part][index], heads.head_dim_k)
                factor = np.exp(0.5 * rng.standard_normal((shape[0], len(first)))).astype(np.float32)
                scale[:, first], scale[:, second] = factor, factor
            whole = rng.integers(0, most_whole + 1, shape[0]).astype(np.int32)
            made[part, index] = rounded(centre, scale, whole)
    return Centring(geometry, ropes, made, "made")
