"""From scores to the cells that stay."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize.prune.layer import Floats

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to stay."""

    keep: float
    """Share of the cells that stay, the protected ones counted, in (0, 1]."""
    per_head: bool = True
    """Choose for every layer and KV head on its own; else whole tokens."""
    first: int = 4
    """Cells at the beginning that stay: the model rests its attention there."""
    last: int = 64
    """Cells at the end that stay, whole: the conversation can still go back to any of them. At most a
    quarter of what stays, and from half of the cells (a quarter) down to a quarter (a sixteenth) the share
    ``keep ** 2``: every head pays for them with other cells, and of little that is dear."""
    protected: tuple[tuple[int, int], ...] = ()
    """Spans of positions, each from the first to one past the last, that stay."""
    segments: tuple[int, ...] = ()
    """Positions at which the parts of the text begin; without any, every 256 tokens are one."""
    quota: float = 0.1
    """Of its fair share each segment keeps at least this."""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"a share of {self.keep} cannot be kept")

    def n_last(self, n_cells: int) -> int:
        """Cells at the end that stay."""
        room = int(self.keep * n_cells * min(1 / 4, max(1 / 16, self.keep**2)))
        return min(n_cells, max(1, min(self.last, room)))

    def mask(self, positions: NDArray[np.int32]) -> Mask:
        """The cells that stay whatever they score."""
        out = np.zeros(len(positions), bool)
        out[: self.first] = True
        out[len(positions) - self.n_last(len(positions)) :] = True
        for start, end in self.protected:
            out |= (positions >= start) & (positions < end)
        return out

    def n_kept(self, mask: Mask) -> int:
        """Cells that stay."""
        return min(len(mask), max(int(mask.sum()), math.ceil(self.keep * len(mask) - 1e-9)))

    def guaranteed(self, positions: NDArray[np.int32], mask: Mask) -> list[tuple[NDArray[np.int64], int]]:
        """Per segment its cells that are not protected, and how many of them stay at least."""
        free = self.n_kept(mask) - int(mask.sum())
        n_open = int((~mask).sum())
        if free <= 0 or n_open == 0 or self.quota <= 0:
            return []
        starts = self.segments or tuple(range(0, int(positions.max()) + 1, 256))
        of_cell = np.searchsorted(np.asarray(starts), positions, side="right")
        out = []
        for segment in np.unique(of_cell):
            cells = np.flatnonzero((of_cell == segment) & ~mask)
            n = int(self.quota * free * len(cells) / n_open)
            if n:
                out.append((cells, n))
        return out


def choose(scores: Floats, positions: NDArray[np.int32], request: Request) -> NDArray[np.int64]:
    """The cells that stay, shape (heads, n_kept), ascending in each row.

    Args:
        scores: shape (heads, n_cells). What is not a number is worth nothing.
    """
    mask = request.mask(positions)
    n_kept = request.n_kept(mask)
    worth = np.where(np.isnan(scores), -np.inf, scores).astype(np.float64)
    rank = np.zeros(worth.shape, np.int8)
    for cells, n in request.guaranteed(positions, mask):
        best = np.argsort(-worth[:, cells], axis=1, kind="stable")[:, :n]
        np.put_along_axis(rank, cells[best], 1, axis=1)
    rank[:, mask] = 2
    order = np.lexsort((-worth, -rank), axis=1)[:, :n_kept]
    chosen: NDArray[np.int64] = np.sort(order, axis=1)
    return chosen


def agreed(scores: Floats, common_scale: bool) -> NDArray[np.float64]:
    """What a whole token is worth to these heads together, shape (n_cells,).

    Few heads need a token much and the others not at all, and it should stay for those few. So the scores
    are added where they have a common scale. Where they have none it is ``1 / (n_cells / 50 + rank)``, the
    best rank being 0: a good place with one head outweighs middling ones with all, which a mean of ranks
    would prefer.
    """
    worth = np.where(np.isnan(scores), -np.inf, scores).astype(np.float64)
    if not common_scale:
        ranks = np.argsort(np.argsort(-worth, axis=1, kind="stable"), axis=1)
        worth = 1 / (scores.shape[1] / 50 + ranks)
    total: NDArray[np.float64] = worth.sum(axis=0)
    return total


def cell_positions(positions: NDArray[np.int32], request: Request, n_kept: int) -> NDArray[np.int32]:
    """Positions for cells that hold other tokens in every head: ascending and all different, those at
    the end their own (``llama.cpp`` asks that the next token follows the last one)."""
    n = len(positions)
    if n_kept == n:
        return positions.copy()
    last = request.n_last(n)
    middle = n_kept - last
    spread = np.linspace(0, n - last - 1, middle).astype(np.int64) if middle else np.empty(0, np.int64)
    return np.concatenate([positions[spread], positions[n - last :]]).astype(np.int32)
