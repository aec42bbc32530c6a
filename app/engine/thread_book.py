"""Measures how many threads a model is fastest with on this machine, and keeps it.

The first time that a model is loaded some tokens are written and a short text is read with several numbers
of threads, in the empty cache. What was found is kept in a file of its own per model and machine; delete
it (``stretch doctor`` says where it is) and it is measured again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from app.engine.cores import Cores, processor_name, read_cores
from app.engine.thread_choice import ThreadChoice, best_of, search
from app.engine.threads import Meter

if TYPE_CHECKING:
    from quantize.llama import Context

LONGEST = 1.0
"""Seconds for the writing, and as many for the reading. A large model is tried with fewer numbers then; all
cores come first, and for a large model they are right."""

TOKENS = 5
"""Tokens that are written with each number, after two that are not counted: the threads start with them."""

TEXT = 64
"""Tokens that are read with each number, twice; with a slow model as many as it writes in two seconds."""

SHORTEST_TEXT = 16

DISTURBED = 0.5
"""Cores that other programs used meanwhile: what was measured beside them is not kept."""


@dataclass(frozen=True)
class Measured:
    """What the file holds."""

    machine: str
    model: str
    """The name of the file."""
    kernel: str
    writing: dict[int, float] = field(default_factory=dict)
    """Tokens per second by number of threads."""
    reading: dict[int, float] = field(default_factory=dict)

    def choice(self, cores: Cores) -> ThreadChoice:
        """The numbers to compute with."""
        writing = best_of(self.writing, cores.usual)
        reading = best_of(self.reading, cores.usual)
        told = ", ".join(f"{n}: {rate:,.0f}" for n, rate in sorted(self.writing.items()))
        return ThreadChoice(writing, reading, f"Measured on this machine ({told} t/s while writing).")


class ThreadBook:
    """The kept measurements.

    Args:
        directory: where they are kept.
        cores: None reads those of this machine.
    """

    def __init__(self, directory: Path, cores: Cores | None = None) -> None:
        self._directory = directory
        self.cores = cores or read_cores()
        self.machine = f"{processor_name()}, {self.cores.words}"

    def choose(
        self, model: Path, kernel: str, context: Context, token: int, stopped: Callable[[], bool]
    ) -> ThreadChoice:
        """The numbers of a model, measured now if they are not known yet.

        Args:
            context: with an empty cache, which it is left with; its number of threads changes.
            token: any token that text may hold.
            stopped: whether to give up.
        """
        if self.cores.most == 1:
            return ThreadChoice(1, 1, f"There is only one to compute with ({self.cores.words}).")
        path = self._path(model, kernel)
        known = _read(path)
        if known is None:
            known, disturbed = self._measure(model, kernel, context, token, stopped)
            if stopped() or not known.writing:
                return ThreadChoice(self.cores.usual, self.cores.usual, f"Not measured ({self.cores.words}).")
            if disturbed:
                why = f"Not measured: other programs were busy meanwhile ({self.cores.words})."
                return ThreadChoice(self.cores.usual, self.cores.usual, why)
            _write(path, known)
        return known.choice(self.cores)

    def known(self, model: Path, kernel: str) -> ThreadChoice:
        """The numbers of a model as far as they are known without measuring."""
        known = _read(self._path(model, kernel))
        usual = self.cores.usual
        return (
            known.choice(self.cores)
            if known
            else ThreadChoice(usual, usual, f"Not measured ({self.cores.words}).")
        )

    def all(self) -> list[Measured]:
        """What is known of this machine."""
        found = (_read(path) for path in sorted(self._directory.glob("*.json")))
        return [each for each in found if each is not None and each.machine == self.machine]

    def _path(self, model: Path, kernel: str) -> Path:
        try:
            told = model.stat()
            stamp = f"{told.st_size} {told.st_mtime_ns}"
        except OSError:
            stamp = ""
        key = "\n".join((self.machine, str(model.resolve()), stamp, kernel))
        return self._directory / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"

    def _measure(
        self, model: Path, kernel: str, context: Context, token: int, stopped: Callable[[], bool]
    ) -> tuple[Measured, bool]:
        meter = Meter()
        before = meter.read()
        rates: list[dict[int, float]] = []
        for take in (_writing, _reading):
            began = perf_counter()
            n_tokens = TOKENS if take is _writing else _text_of(rates[0])

            def rate(
                n: int, take: _Take = take, began: float = began, n_tokens: int = n_tokens
            ) -> float | None:
                if stopped() or perf_counter() - began > LONGEST:
                    return None
                context.set_threads(n)
                return take(context, token, n_tokens)

            rates.append(search(rate, self.cores.most))
            context.clear()
        after = meter.read()
        left = (after.own - before.own + after.idle - before.idle) / max(1e-9, after.at - before.at)
        disturbed = after.idle > 0 and left < self.cores.most - DISTURBED
        return Measured(self.machine, model.name, kernel, *rates), disturbed


_Take = Callable[["Context", int, int], float | None]


def _writing(context: Context, token: int, n_tokens: int) -> float | None:
    """Tokens per second."""
    context.clear()
    seconds: list[float] = []
    for i in range(2 + n_tokens):
        began = perf_counter()
        if context.decode_one(token, i) != 0:
            return None
        seconds.append(perf_counter() - began)
        if sum(seconds) > LONGEST and i >= 2:
            break
    return 1 / max(1e-9, median(seconds[2:]))


def _text_of(writing: Mapping[int, float]) -> int:
    """How long a text is read."""
    return max(SHORTEST_TEXT, min(TEXT, round(2 * max(writing.values(), default=0.0))))


def _reading(context: Context, token: int, n_tokens: int) -> float | None:
    """Tokens per second, of the better of two times."""
    best = math.inf
    n = min(n_tokens, context.n_batch, context.n_ctx)
    for _ in range(2):
        context.clear()
        began = perf_counter()
        if context.decode([token] * n, 0) != 0:
            return None
        best = min(best, perf_counter() - began)
    return n / max(1e-9, best)


def _read(path: Path) -> Measured | None:
    """None if there is none, or if it cannot be understood: then it is measured again."""
    try:
        data = json.loads(path.read_text())
        rates = [{int(n): float(rate) for n, rate in data[what].items()} for what in ("writing", "reading")]
        if not all(n >= 1 and rate > 0 for each in rates for n, rate in each.items()) or not rates[0]:
            return None
        return Measured(str(data["machine"]), str(data["model"]), str(data["kernel"]), *rates)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(path: Path, measured: Measured) -> None:
    """Nothing is lost where that fails: it is measured again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(measured), indent=1) + "\n")
        new.replace(path)
    except OSError:
        pass
