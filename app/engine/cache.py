"""A cache with its settings: what it is made of and what it really takes."""

from __future__ import annotations

import math
import struct
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace

import numpy as np

from app.engine.loader import LoadedModel
from app.engine.log import EngineLog
from app.engine.native import Native
from app.engine.threads import Threads
from app.engine.words import label
from models.geometry import Shape
from quantize.cache_types import AUTO_TAIL, SINKS, CachePair, cache_type
from quantize.centring import Centring
from quantize.centring_store import CentringStore
from quantize.errors import CacheTypeError, EngineError, StateError, StretchError
from quantize.llama import Context
from quantize.native import attention
from quantize.native.tail import Tail
from quantize.native.window import Layout, reserve
from quantize.state import SavedState, read_state


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What can be chosen about a cache."""

    type_k: str
    type_v: str
    n_ctx: int
    tail: int = 0
    """Newest tokens that are kept exactly."""
    tail_wish: int = AUTO_TAIL
    """What was wished for: a number of tokens, or ``AUTO_TAIL``."""

    def with_tail(self, *, possible: bool) -> CacheSettings:
        """The same with the window that the wish gives beside these types.

        Args:
            possible: whether there can be one here.
        """
        return replace(self, tail=self.pair.tail(self.tail_wish, self.n_ctx) if possible else 0)

    @property
    def pair(self) -> CachePair:
        """The types."""
        return CachePair(cache_type(self.type_k), cache_type(self.type_v))

    @property
    def label(self) -> str:
        """``q8_0/q4_0``, ``tq3+256``."""
        return label(self.type_k, self.type_v, self.tail)

    @property
    def types(self) -> tuple[str, str]:
        """The names of K's and V's type."""
        return self.type_k, self.type_v


NO_WINDOW = (
    "There is no window of exact tokens for this model: llama.cpp computes its attention without Stretch's "
    "kernel (on a GPU, or with heads that the kernel does not take)."
)


def longest_context(shape: Shape) -> int:
    """The longest context that makes sense: the trained length, rounded up as llama.cpp does."""
    return math.ceil(shape.n_ctx_train / 256) * 256 if shape.n_ctx_train else 1 << 24


def layout_of(shape: Shape) -> Layout:
    """The caches of a model with the numbers of their layers."""
    return Layout(shape.geometry(), shape.layer_numbers())


@dataclass
class Cache:
    """An open context."""

    context: Context
    settings: CacheSettings
    """With the length that llama.cpp made of the one that was asked for."""
    row_bytes: int
    """Of all rows of the cache, from the engine's own words."""
    compute_bytes: int
    """Of the buffers to compute with."""
    tail: Tail | None = None
    """The exact window, if there is or was one since it was opened."""

    @property
    def kv_bytes(self) -> int:
        """Bytes of the cache and of the exact window beside it. Any thread may ask."""
        tail = self.tail
        return self.row_bytes + (max(0, tail.bytes) if tail is not None else 0)

    def close(self) -> None:
        """Free it. Its size is remembered."""
        self.row_bytes, self.tail = self.kv_bytes, None
        self.context.close()


class CacheMaker:
    """Opens caches for one model."""

    def __init__(
        self,
        loaded: LoadedModel,
        shape: Shape,
        log: EngineLog,
        threads: Threads,
        native: Native,
        centrings: CentringStore,
    ) -> None:
        self.shape = shape
        self.centrings = centrings
        self._native = native
        self._layout = layout_of(shape)
        self._refused_windows: dict[tuple[str, str], str] = {}
        self._loaded = loaded
        self._log = log
        self._threads = threads

    def check(self, settings: CacheSettings) -> None:
        """Refuse settings that this model cannot have.

        Raises:
            CacheTypeError: with the reason and a setting that fits.
        """
        if not self._native.types and (settings.pair.k.native or settings.pair.v.native):
            raise CacheTypeError(self._native.types_reason, "Choose a stock type, for example q4_0.")
        self.type_ids(settings)
        reason = settings.pair.obstacle(*self._head_dims(), mla=self.shape.mla)
        if reason:
            raise CacheTypeError(reason)

    def window_obstacle(self, settings: CacheSettings) -> str:
        """Why there cannot be an exact window beside these types, in one sentence; empty if there can.

        Whether llama.cpp gives the attention of this model and the writes of its cache to the kernel
        is tried once per pair of types, in a cache of the least length.
        """
        if not self._native.kernel:
            reason = self._native.kernel_reason
            return f"A window of exact tokens needs Stretch's own attention kernel. {reason}"
        found = self._refused_windows.get(settings.types)
        if found is None:
            found = self._refused_windows[settings.types] = "" if self._try_window(settings) else NO_WINDOW
        return found

    def _try_window(self, settings: CacheSettings) -> bool:
        before = attention.counters()
        try:
            cache = self.open(replace(settings, n_ctx=256, tail=1))
        except EngineError:
            return False
        try:
            done = cache.context.decode((max(self._loaded.vocabulary.bos, 0),), 0) == 0
            ran = attention.counters()
            return done and ran.attention > before.attention and ran.set_rows > before.set_rows
        finally:
            cache.close()

    def type_ids(self, settings: CacheSettings) -> tuple[int, int]:
        """ggml's ids of K and V.

        Raises:
            CacheTypeError: if a type does not fit the heads of this model.
        """
        return settings.pair.type_ids(*self._head_dims())

    def centring(self, settings: CacheSettings) -> Centring | None:
        """What a cache with these settings stores K without."""
        return self._loaded.model.centring_for(self.type_ids(settings)[0])

    def _head_dims(self) -> tuple[set[int], set[int]]:
        layers = (*self.shape.base, *self.shape.sliding)
        return {h.head_dim_k for h in layers} or {256}, {h.head_dim_v for h in layers} or {256}

    def open(self, settings: CacheSettings) -> Cache:
        """Make a context.

        Raises:
            EngineError: if llama.cpp does not make it.
            CacheTypeError: if a type does not fit.
        """
        type_k, type_v = self.type_ids(settings)
        if settings.pair.k.quantized and not self.centrings.calibrated:
            with suppress(StretchError):  # else with what the weights tell
                self.centrings.calibrate()
        tail = Tail(settings.tail, SINKS) if settings.tail else None
        self._log.begin_context()
        with tail or nullcontext():
            context = Context(
                self._loaded.model,
                n_ctx=settings.n_ctx,
                type_k=type_k,
                type_v=type_v,
                n_threads=self._threads.now,
            )
        if tail is not None:
            reserve(tail, self._layout, type_k, type_v, context.n_ubatch)
        context.tiled_attention |= self._native.kernel
        made = replace(settings, n_ctx=context.n_ctx)
        row_bytes = sum(size for _, _, size in self._log.caches) + self._log.recurrent_bytes
        return Cache(context, made, row_bytes, self._log.compute_bytes, tail)

    def prove(self, cache: Cache) -> SavedState | None:
        """Decode one token in an empty cache, read its state back and empty it again.

        Shows that the model runs with these settings, whether its state can be read, and what a
        row really takes.

        Returns:
            the state, or None if its layout is not known.

        Raises:
            EngineError: if the model cannot write text.
        """
        vocabulary, context = self._loaded.vocabulary, cache.context
        if context.decode((max(vocabulary.bos, 0),), 0) != 0:
            raise EngineError("llama.cpp loaded this model but cannot run it.", "The log says why.")
        context.logits()
        data = np.zeros(context.state_size(), np.uint8)
        try:
            state = read_state(data[: context.save_state(data)])
        except StateError:
            state = None
        context.clear()
        if state is not None:
            self.measure(cache, state)
        return state

    def measure(self, cache: Cache, state: SavedState) -> None:
        """Work out the exact size of ``cache``: the cells that llama.cpp logged when it made the
        newest context times the rows of a state that this context wrote or took. (What it logs in
        bytes is rounded to a hundredth of a MiB, which the exact figure must agree with.)"""
        rows = [
            (len(part.k), sum(r.row_size for r in (*part.k, *part.v))) for part in state.parts if part.n_cells
        ]
        logged = self._log.caches
        recurrent = _recurrent_bytes(state) or self._log.recurrent_bytes
        if [n_layer for n_layer, _ in rows] != [n_layer for _, n_layer, _ in logged]:
            return
        exact = [cells * size for (_, size), (cells, _, _) in zip(rows, logged, strict=True)]
        if all(abs(e - size) < 16384 for e, (_, _, size) in zip(exact, logged, strict=True)):
            cache.row_bytes = sum(exact) + recurrent


def _recurrent_bytes(state: SavedState) -> int:
    """Bytes of the rows of a state's recurrent part: u32 n_cells, 8 bytes per cell, u32 transposed,
    u32 n_layer, then per row i32 type, u64 row size and n_cells rows. A context of one sequence has
    one cell, so this is what it allocated."""
    if not state.recurrent_size:
        return 0
    data = state.data.data
    offset = state.data.size - state.recurrent_size
    (n_cells,) = struct.unpack_from("<I", data, offset)
    offset += 4 + 8 * n_cells + 8
    total = 0
    while offset < state.data.size:
        (row_size,) = struct.unpack_from("<Q", data, offset + 4)
        total += row_size * n_cells
        offset += 12 + row_size * n_cells
    return total
