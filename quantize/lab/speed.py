"""Tokens per second of one setting at several depths.

One text is read from the beginning to the largest depth. At each depth the time so far gives the prefill
speed, then some tokens are decoded one by one, timed, and removed again. So every depth costs no more
than the largest one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from quantize.lab.setting import Setting
from quantize.lab.subject import Workbench

N_BATCH = 512


@dataclass(frozen=True, slots=True)
class Timing:
    """What was measured at one depth."""

    depth: int
    prefill_s: float
    """To read the first ``depth`` tokens."""
    decode_s: float
    n_decoded: int
    kernel: str
    """``own`` or ``stock``: what computed the attention so far."""


def measure_speed(
    bench: Workbench,
    setting: Setting,
    depths: Sequence[int],
    tokens: Sequence[int],
    *,
    n_decode: int,
    on_progress: Callable[[int], None] = lambda _n: None,
) -> list[Timing]:
    """Time one setting once.

    Args:
        tokens: at least as many as the largest depth and ``n_decode``.
        on_progress: called with the tokens that were read so far.

    Raises:
        CacheTypeError: if the model cannot have this setting.
        EngineError: if llama.cpp fails.
    """
    depths = sorted(set(depths))
    timings: list[Timing] = []
    with setting.open(bench, n_ctx=depths[-1] + n_decode, n_batch=N_BATCH) as subject:
        context = subject.context
        warm = list(tokens[: min(64, depths[0])])
        subject.read(warm, 0, "last")  # pages, thread pool and graph are made before the clock starts
        subject.read(tokens[:1], len(warm), "last")
        context.clear()
        position, seconds = 0, 0.0
        for depth in depths:
            while position < depth:
                chunk = tokens[position : min(position + N_BATCH, depth)]
                began = perf_counter()
                subject.read(chunk, position, "last")
                seconds += perf_counter() - began
                position += len(chunk)
                on_progress(position)
            began = perf_counter()
            for i in range(n_decode):
                subject.read(tokens[depth + i : depth + i + 1], depth + i, "last")
            decode_s = perf_counter() - began
            timings.append(Timing(depth, seconds, decode_s, n_decode, subject.kernel))
            if depth != depths[-1] and not context.remove(depth):
                context.clear()  # this model cannot go back: read again, not timed
                subject.read(tokens[:depth], 0)
    return timings
