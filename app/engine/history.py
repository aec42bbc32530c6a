"""The caches before the last changes, so that a change can be undone exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.engine.cache import CacheSettings
from app.engine.prompt import common_prefix
from app.engine.pruned import Pruned
from app.engine.states import disk_room
from quantize.buffers import release
from quantize.errors import StateError
from quantize.native.window import Window
from quantize.state import SavedState, read_state

MAX_KEPT = 4
"""Changes that can be undone one after the other."""


@dataclass
class Kept:
    """A cache as it was before a change."""

    settings: CacheSettings
    tokens: list[int]
    state: NDArray[np.uint8] | None
    """Its saved state in a file, or None if there was no room to keep it."""
    window: Window | None = None
    """What its exact window held."""
    pruned: Pruned | None = None
    """What had been pruned of it then."""

    def n_exact(self, tokens: list[int]) -> int:
        """How many of the first ``tokens`` it holds."""
        return common_prefix(self.tokens, tokens) if self.state is not None else 0


class History:
    """The newest changes, the last one first to be undone."""

    def __init__(self) -> None:
        self._kept: list[Kept] = []

    def __len__(self) -> int:
        return len(self._kept)

    def push(self, kept: Kept) -> None:
        """Remember the cache before a change; forget the oldest ones for want of room."""
        self._kept.append(kept)
        if kept.state is not None:
            release(kept.state, 0, kept.state.nbytes)  # it stays in its file
        del self._kept[:-MAX_KEPT]
        while sum(k.state.nbytes for k in self._kept if k.state is not None) > disk_room() // 2:
            oldest = next((k for k in self._kept if k.state is not None), None)
            if oldest is None or oldest is kept:
                return
            oldest.state = None

    @property
    def oldest_first(self) -> Sequence[Kept]:
        """All of them, the first that was made before the others."""
        return tuple(self._kept)

    def pop(self) -> Kept | None:
        """Take the last one back."""
        return self._kept.pop() if self._kept else None

    @property
    def last(self) -> Kept | None:
        """The one that an undo would bring back."""
        return self._kept[-1] if self._kept else None

    def exact(self, settings: CacheSettings, tokens: list[int], pruned: Pruned | None = None) -> Kept | None:
        """The one of these types that holds most of ``tokens`` as they were, if any does: with the same
        cells, that is, after the same prune."""
        same = [
            k
            for k in self._kept
            if (k.settings.type_k, k.settings.type_v) == (settings.type_k, settings.type_v)
            and k.pruned == pruned
        ]
        best = max(same, key=lambda k: k.n_exact(tokens), default=None)
        return best if best is not None and best.n_exact(tokens) > 0 else None

    def forget_states(self) -> None:
        """The conversation is another one: what was kept of the old one is worthless."""
        for kept in self._kept:
            kept.state = kept.window = None

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


def put_exact_rows(target: NDArray[np.uint8], kept: NDArray[np.uint8], n_exact: int) -> None:
    """Replace the rows of the first ``n_exact`` positions in ``target`` by those in ``kept``.

    Both are saved states of the same model with the same types. Positions that ``kept`` does not
    hold (a sliding window has moved on) stay as they are.

    Raises:
        StateError: if the two do not have the same shape.
    """
    here, there = read_state(target), read_state(kept)
    _check_alike(here, there)
    for i, part in enumerate(here.parts):
        if not part.n_cells or not there.parts[i].n_cells:
            continue
        rows = np.full(int(max(here.positions(i).max(), there.positions(i).max())) + 1, -1)
        rows[there.positions(i)] = np.arange(there.parts[i].n_cells)
        source = rows[here.positions(i)]
        cells = np.flatnonzero((here.positions(i) < n_exact) & (source >= 0))
        source = source[cells]
        for mine, theirs in zip((*part.k, *part.v), (*there.parts[i].k, *there.parts[i].v), strict=True):
            here.rows(mine)[cells] = there.rows(theirs)[source]


def _check_alike(a: SavedState, b: SavedState) -> None:
    def shape(state: SavedState) -> list[tuple[tuple[int, int], ...]]:
        return [tuple((r.type_id, r.row_size) for r in (*p.k, *p.v)) for p in state.parts if p.n_cells]

    if len(a.parts) != len(b.parts) or shape(a) != shape(b) or a.centring != b.centring:
        raise StateError("The state that was kept has another shape than the cache.")
