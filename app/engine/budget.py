"""What the engine may take, what it takes, and what it would take with other settings."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import psutil

from app.engine import words
from app.engine.cache import Cache, CacheSettings
from app.engine.native import NO_NATIVE, Native
from app.engine.protocol import MemoryFigures
from models.memory import memory, read_size
from models.model_losses import ModelLosses
from models.plan import Planner, StretchRow
from quantize.cache_types import PRESETS, CachePair, cache_type
from quantize.errors import OutOfMemoryError
from quantize.lab.loss import UNKNOWN, Loss

LIMIT_VARIABLE = "STRETCH_RAM_LIMIT"
"""Environment variable: bytes (``2G``, ``512M``) that the engine's process may take at most, as if the
machine had no more. It can only lower what is really available."""

DEFAULT_N_CTX = 8192
"""Longest context that is chosen without being asked for."""


def ram_limit() -> int | None:
    """The limit of the environment, None if there is none."""
    return read_size(os.environ.get(LIMIT_VARIABLE, ""))


class Process:
    """What this process takes."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def rss(self) -> int:
        """Resident bytes, mapped files included."""
        return int(self._process.memory_info().rss)

    def own_bytes(self, mapped: int = 0) -> int:
        """Resident bytes that no other process or file holds. The system counts the mapped weights
        as available, since it can drop and reread them; so they must not be counted twice.

        Args:
            mapped: bytes of mapped files, for systems that do not tell.
        """
        info = self._process.memory_info()
        shared = info.shared if sys.platform == "linux" else min(mapped, info.rss // 2)
        return int(info.rss - shared)


class Budget:
    """Answers whether something fits, for one model."""

    def __init__(
        self,
        planner: Planner,
        process: Process,
        native: Native = NO_NATIVE,
        losses: ModelLosses | None = None,
    ) -> None:
        self.planner = planner
        self.native = native
        self.windows = native.kernel
        """Whether there can be exact windows; they are counted then."""
        self._presets = [p for p in PRESETS if native.types or not (p.k.native or p.v.native)]
        self._process = process
        self.losses = losses
        self.beside = 0
        """Bytes that are taken for a while by something that is no part of the cache."""

    # ------------------------------------------------------------------ what there is

    def total(self) -> int:
        """Bytes that the engine's whole process may take, what it holds now included."""
        return whole_budget(self._process, self.planner.weights.mapped) - self.beside

    def free(self, present: CacheSettings) -> int:
        """Bytes that it may still take beside a context of the ``present`` settings."""
        return self.total() - self.process_bytes(present)

    # ------------------------------------------------------------------ what things take

    def kv_bytes(self, settings: CacheSettings) -> int:
        """Bytes of a cache."""
        return self.planner.cache_bytes(settings.pair, settings.n_ctx, tail=settings.tail)

    def rows_bytes(self, settings: CacheSettings) -> int:
        """Bytes of its rows alone, without an exact window."""
        return self.planner.cache_bytes(settings.pair, settings.n_ctx)

    def context_bytes(self, settings: CacheSettings) -> int:
        """Bytes of a cache and its buffers."""
        plan = self.planner.plan(settings.pair, settings.n_ctx, tail=settings.tail)
        return plan.cache + plan.compute

    def process_bytes(self, settings: CacheSettings) -> int:
        """Bytes of the whole process with a context of these settings."""
        return self.planner.plan(settings.pair, settings.n_ctx, tail=settings.tail).total

    def max_ctx(self, settings: CacheSettings) -> int:
        """The longest context of these types that would fit now, at most the trained one."""
        row = self.planner.row(settings.pair, n_ctx=settings.n_ctx, budget=self.total(), tail=settings.tail)
        return row.max_ctx

    def default_n_ctx(self, settings: CacheSettings) -> int:
        """The length when none is asked for: what fits of the trained length, at most 8192."""
        longest = self.max_ctx(settings) or 256
        return min(DEFAULT_N_CTX, longest)

    # ------------------------------------------------------------------ answers

    def check_fits(self, settings: CacheSettings) -> None:
        """Refuse a process of this size before anything is allocated.

        Raises:
            OutOfMemoryError: naming what would fit.
        """
        needed, total = self.process_bytes(settings), self.total()
        if needed > total:
            raise self.refusal(
                f"{settings.label} with {words.tokens(settings.n_ctx)} needs {words.size(needed)} of memory, "
                f"and {words.size(total)} are available.",
                settings,
            )

    def refusal(self, sentence: str, settings: CacheSettings) -> OutOfMemoryError:
        """The error for something that does not fit, with the longest context per cache type that does."""
        fits = [
            f"{words.label(row.type_k, row.type_v, row.tail)} up to {row.max_ctx:,}"
            for row in self.rows(settings)
            if not row.refused and row.max_ctx > 0
        ]
        if not fits:
            return OutOfMemoryError(
                sentence, "No context of this model fits: choose a smaller model, or close other programs."
            )
        return OutOfMemoryError(sentence, f"What fits: {'; '.join(fits)}.")

    def rows(self, settings: CacheSettings) -> tuple[StretchRow, ...]:
        """The stretch table in the order of loss; the present setting has a row too."""
        pairs = self._presets if settings.pair in self._presets else [settings.pair, *self._presets]
        total = self.total()
        rows = [self._row(pair, settings, total) for pair in pairs]
        return tuple(rows) if self.losses is None else self.losses.with_losses(rows)

    def without_window(self, row: StretchRow, settings: CacheSettings) -> StretchRow:
        """The row of the same types if no token is kept exactly."""
        pair = CachePair(cache_type(row.type_k), cache_type(row.type_v))
        found = self.planner.row(pair, n_ctx=settings.n_ctx, budget=self.total())
        return replace(found, loss=self.loss(pair, 0))

    def loss(self, pair: CachePair, tail: int) -> Loss:
        """What a setting costs on this model."""
        return UNKNOWN if self.losses is None else self.losses.of(pair, tail)

    def warning(self, settings: CacheSettings) -> str:
        """Why these settings must not be taken unasked, and what to take instead; empty if they may."""
        if self.losses is None or not self.loss(settings.pair, settings.tail).breaks:
            return ""
        return self.losses.warning(settings.pair, settings.tail, self.rows(settings))

    def _row(self, pair: CachePair, settings: CacheSettings, total: int) -> StretchRow:
        tail = pair.tail(settings.tail_wish, settings.n_ctx) if self.windows else 0
        return self.planner.row(pair, n_ctx=settings.n_ctx, budget=total, tail=tail)

    def figures(self, cache: Cache) -> MemoryFigures:
        """The memory section of the panel."""
        settings = cache.settings
        plan = self.planner.plan(settings.pair, settings.n_ctx, tail=settings.tail)
        machine = memory()
        return MemoryFigures(
            weights_mapped=plan.weights_mapped,
            weights_repacked=plan.weights_repacked,
            kv_predicted=plan.cache,
            kv_measured=cache.kv_bytes,
            compute=cache.compute_bytes,
            overhead=plan.overhead,
            predicted_total=plan.total,
            rss=self._process.rss(),
            available=_within_limit(machine.available, self._process, plan.weights_mapped),
            total=machine.total,
        )


def whole_budget(process: Process, mapped: int = 0) -> int:
    """Bytes that this process may take, what it holds now included."""
    machine = memory().available + process.own_bytes(mapped)
    limit = ram_limit()
    return machine if limit is None else min(limit, machine)


def available(process: Process, mapped: int = 0) -> int:
    """Bytes that are available to this process now."""
    return _within_limit(memory().available, process, mapped)


def _within_limit(machine: int, process: Process, mapped: int) -> int:
    limit = ram_limit()
    return machine if limit is None else max(0, min(machine, limit - process.own_bytes(mapped)))
