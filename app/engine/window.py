"""The exact window of the newest tokens, taken along when the cache changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.engine import states
from app.engine.cache import Cache, CacheMaker, CacheSettings, layout_of
from app.engine.history import History, Kept
from app.engine.pruned import Pruned
from quantize.buffers import release
from quantize.centring import with_id
from quantize.errors import OutOfMemoryError
from quantize.native.window import (
    NOTHING,
    Filling,
    Source,
    Window,
    gather,
    place,
    put_back,
    read_window,
    window_bytes,
)
from quantize.state import read_state

MAX_MARKS = 4
MAX_BYTES = 64 * 1024 * 1024
"""A larger window is not marked: writing it would be felt at every reply."""


def window_of(cache: Cache, maker: CacheMaker) -> Window | None:
    """The exact rows beside ``cache``, in a file if there is room for one; None if there are none."""
    if cache.tail is None or not cache.settings.tail:
        return None
    window = read_window(cache.tail, layout_of(maker.shape), *maker.type_ids(cache.settings))
    try:
        buffer = states.in_file(window_bytes(window))
    except OutOfMemoryError:
        return window or None
    placed = place(window, buffer)
    release(buffer, 0, buffer.nbytes)  # it stays in its file
    return placed or None


class WindowMarks:
    """The window at points of the conversation to which it is likely to go back.

    A reply displaces what the window held before it. When it is written again, or the message before it
    is said differently, the tokens before it are the newest ones once more.
    """

    def __init__(self, maker: CacheMaker, cache: Cache) -> None:
        self._maker = maker
        self._cache = cache
        self._marks: dict[int, Window] = {}

    def __len__(self) -> int:
        return len(self._marks)

    def follow(self, cache: Cache) -> None:
        """The conversation goes on in another cache."""
        self._cache = cache
        self._marks.clear()

    def save(self, n_tokens: int) -> None:
        """Remember the window as it is now, after ``n_tokens``."""
        if self._cache.kv_bytes - self._cache.row_bytes > MAX_BYTES:
            return
        window = window_of(self._cache, self._maker)
        if window is not None:
            self._marks[n_tokens] = window
            for oldest in sorted(self._marks)[:-MAX_MARKS]:
                del self._marks[oldest]

    def restore(self, n_keep: int) -> None:
        """The conversation was cut to ``n_keep`` tokens: bring back the window of the next mark."""
        later = [n for n in self._marks if n >= n_keep]
        if later and self._cache.tail is not None:
            put_back(self._cache.tail, self._marks[min(later)])
        for n in later:
            if n > n_keep:
                del self._marks[n]

    def clear(self) -> None:
        """The cache was emptied."""
        self._marks.clear()


class WindowKeeper:
    """Finds exact rows for a new cache in the old one, and in the caches that can be gone back to."""

    def __init__(self, maker: CacheMaker, history: History) -> None:
        self._maker = maker
        self._history = history
        self._layout = layout_of(maker.shape)

    def gather(
        self,
        wanted: CacheSettings,
        tokens: list[int],
        data: NDArray[np.uint8],
        window: Window | None,
        pruned: Pruned | None = None,
    ) -> Filling:
        """The newest rows for a cache of the ``wanted`` settings that will hold ``tokens``.

        Args:
            data: the state of the present cache, as it is before a change of types.
            window: what the tail beside it held.
            pruned: what was pruned of it. A cache from before a prune has other tokens in its cells.
        """
        if not wanted.tail and not window:
            return NOTHING
        # The first cache that held a token has it as the model computed it; later ones made theirs of that.
        kept = [
            k
            for k in self._history.oldest_first
            if k.pruned == pruned and k.state is not None and k.n_exact(tokens)
        ]
        sources = [
            Source(read_state(k.state), k.window, k.n_exact(tokens)) for k in kept if k.state is not None
        ]
        now = read_state(data)
        sources.append(Source(now, window, len(tokens)))
        # Without a tail in the new cache the exact rows of the old one are still worth more than what
        # the old cache made of them.
        n = wanted.tail or max(len(rows.values) for rows in (window or {}).values())
        types, centring = self._maker.type_ids(wanted), self._maker.centring(wanted)
        return gather(n, sources, now, self._layout, *types, centring)

    def joined(
        self,
        settings: CacheSettings,
        kept: Kept,
        now: NDArray[np.uint8],
        window: Window | None,
        n_kept: int,
        whole: NDArray[np.uint8],
    ) -> Filling:
        """The newest rows of ``whole``, which has the first ``n_kept`` tokens of ``kept`` and the others of
        ``now``, beside which the tail held ``window``."""
        if kept.state is None:
            return NOTHING
        sources = [
            Source(read_state(kept.state), kept.window, n_kept),
            Source(read_state(now), window, 1 << 30, n_kept),
        ]
        types = self._maker.type_ids(settings)
        to = read_state(whole)
        return gather(settings.tail, sources, to, self._layout, *types, with_id(to.centring))
