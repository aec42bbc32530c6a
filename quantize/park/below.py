"""What a layer tells of the one above it.

The rows of neighbouring layers grow out of the same stream of values. What the tokens do not tell of a layer
(its residual) is predicted from the residual of the layer below, as the decoder has it, which in its turn
holds what the layer below that one told. Only the prediction is kept until the layer above is coded: twice an
f16 cache of one layer, whatever the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.park.product import product
from quantize.park.profile import Group

Floats = NDArray[np.float32]

BELOW = "below"
"""Arrays of a profile, between the codec's name and the number of a group: shape (width of the group below,
width)."""


def group_below(groups: Sequence[Group], index: int) -> int | None:
    """The group that holds the same of the layer below: K and V together, or one of them."""
    part, sides = groups[index].part, {side for _, side in groups[index].members}
    for i in range(index - 1, -1, -1):
        if groups[i].part == part and {side for _, side in groups[i].members} == sides:
            return i
    return None


class Chain:
    """Carries what each layer tells to the one above it, while one file is coded or read."""

    def __init__(
        self,
        codec: str,
        groups: Sequence[Group],
        widths: Sequence[int],
        arrays: Mapping[str, NDArray[Any]],
        array: Callable[..., Floats],
    ) -> None:
        """
        Args:
            widths: of the groups.
            arrays: of the profile: those that are there say which groups are predicted.
            array: gives one of them as float32, checked for its shape.
        """
        self._codec, self._array = codec, array
        self._above = {
            below: i
            for i in range(len(groups))
            if f"{codec}.{BELOW}.{i}" in arrays and (below := group_below(groups, i)) is not None
        }
        self._widths = widths
        self._matrix: tuple[int, Floats] = (-1, np.empty((0, 0), np.float32))
        self._told: dict[tuple[int, int], Floats] = {}

    def needs(self, index: int) -> bool:
        """Whether a group above is predicted from this one."""
        return index in self._above

    def tell(self, index: int, span: int, residual: Floats) -> None:
        """Take in what the decoder knows of a stretch of tokens of a group, shape (width, tokens)."""
        above = self._above[index]
        if self._matrix[0] != above:
            shape = len(residual), self._widths[above]
            self._matrix = above, self._array(f"{self._codec}.{BELOW}.{above}", *shape)
        self._told[above, span] = product(self._matrix[1], residual)

    def told(self, index: int, span: int) -> Floats | None:
        """The prediction of a stretch of tokens, shape (width, tokens); None if nothing is told of it."""
        return self._told.pop((index, span), None)
