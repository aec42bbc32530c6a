"""A planner whose figures come from the engine's allocator, checked against the formula.

Two dry runs per cache setting give the slope and the start of what the engine takes, since both
the cache and the compute buffer grow linearly once the window of a sliding-window model is full.
Where the engine and the formula agree on the cache, the formula's exact bytes are kept (the log
rounds to .01 MiB); where they do not, the engine is right and the plan says so.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from models.byte_source import ByteSource
from models.dryrun import Exact, Request, dry_run
from models.header import Header
from models.lean import lean_file
from models.plan import MemoryPlan, Planner, round_up
from quantize.cache_types import PRESETS, CachePair, parse_pair

_ROUNDING = 5300
"""Bytes that llama.cpp's log may be off by, per buffer (half of .01 MiB, and a little)."""

_FIRST, _FACTOR = 2048, 8


@dataclass(frozen=True, slots=True)
class Line:
    """Two points: what the engine says at two lengths of the context."""

    n_ctx: tuple[int, int]
    cache: tuple[int, int]
    compute: tuple[int, int]
    buffers: int
    """Cache buffers, each of which is rounded."""

    def at(self, values: tuple[int, int], n_ctx: int) -> int:
        """The line through two values, not below zero."""
        (x0, x1), (y0, y1) = self.n_ctx, values
        return max(round(y0 + (y1 - y0) * (n_ctx - x0) / (x1 - x0)), 0)


class ExactPlanner(Planner):
    """A planner that was told what the engine's allocator says.

    Settings that were not tried (types of Stretch's own library, which the dry run does not have)
    follow the formula for the cache and the most similar setting for the compute buffer.
    """

    def __init__(self, header: Header, lines: dict[str, Line], *, repack: bool = True) -> None:
        """Combine a header and the engine's figures (by the label of the setting)."""
        super().__init__(header, repack=repack)
        self.lines = lines
        self.disagrees = tuple(label for label, line in lines.items() if not self._agrees(label, line))

    def cache_bytes(self, pair: CachePair, n_ctx: int, *, tail: int = 0) -> int:
        if pair.label not in self.disagrees:
            return super().cache_bytes(pair, n_ctx, tail=tail)
        self.types(pair)
        line = self.lines[pair.label]
        return line.at(line.cache, round_up(n_ctx)) + self.tail_bytes(pair, tail, n_ctx)

    def bytes_per_token(self, pair: CachePair) -> float:
        if pair.label not in self.disagrees:
            return super().bytes_per_token(pair)
        line = self.lines[pair.label]
        return (line.cache[1] - line.cache[0]) / (line.n_ctx[1] - line.n_ctx[0])

    def compute_bytes(self, pair: CachePair, n_ctx: int) -> int:
        line = self.lines.get(pair.label) or self._similar(pair)
        if line is None or n_ctx < self.n_ubatch:
            return super().compute_bytes(pair, n_ctx)
        return line.at(line.compute, n_ctx)

    def plan(self, pair: CachePair, n_ctx: int, *, tail: int = 0) -> MemoryPlan:
        plan = super().plan(pair, n_ctx, tail=tail)
        if pair.label not in self.disagrees:
            return plan
        known = tuple(s for s in plan.unknown if "formula leaves out" not in s)
        note = "The formula and the engine's allocator disagree on the cache; the figures are the engine's."
        return MemoryPlan(**{**asdict(plan), "unknown": (*known, note)})

    def _agrees(self, label: str, line: Line) -> bool:
        pair = parse_pair(label)
        return all(
            abs(super(ExactPlanner, self).cache_bytes(pair, n_ctx) - said) <= _ROUNDING * line.buffers
            for n_ctx, said in zip(line.n_ctx, line.cache, strict=True)
        )

    def _similar(self, pair: CachePair) -> Line | None:
        """The line of a tried setting of the same kind: what is rotated takes other buffers."""
        kinds = {label: line for label, line in self.lines.items() if ("f16" in label) != pair.k.quantized}
        return next(iter((kinds or self.lines).values()), None)


def exact_planner(
    where: Path | ByteSource,
    header: Header,
    *,
    settings: Sequence[CachePair] = PRESETS,
    repack: bool = True,
    memory_of_results: Path | None = None,
    key: str = "",
) -> ExactPlanner:
    """Ask the engine's allocator about a model.

    Args:
        where: the file, or a source of bytes that has at least its header (the first megabytes of
            a file on a server).
        header: its header, read by ``models.splits.read_model`` or ``models.header.parse_header``.
        settings: cache settings to try; those that cannot be used are passed over.
        memory_of_results: a directory to remember the answers in; None asks every time.
        key: identity of the file for ``memory_of_results``, needed with a source of bytes (for
            example the hash that the server gives).

    Raises:
        ModelFileError: if the engine does not take the file.
    """
    plain = Planner(header, repack=repack)
    stock = [p for p in settings if not (p.k.native or p.v.native) and not plain.refusal(p)]
    place = memory_of_results / f"{_identity(where, key, stock)}.json" if memory_of_results else None
    lines = _remembered(place) if place else None
    if lines is None:
        with lean_file(where, header) as lean:
            lines = _ask(lean, plain, stock)
        if place:
            _remember(place, lines)
    return ExactPlanner(header, lines, repack=repack)


def _ask(path: Path, planner: Planner, settings: Sequence[CachePair]) -> dict[str, Line]:
    """Two points for each setting."""
    first = max(_FIRST, round_up(planner.shape.n_swa + planner.n_ubatch))
    points = (first, first * _FACTOR)
    types = {p.label: planner.types(p) for p in settings}
    answers = dry_run(
        path,
        [Request(n_ctx, k.id, v.id) for k, v in types.values() for n_ctx in points],
        n_ubatch=planner.n_ubatch,
        n_seq_max=planner.n_seq_max,
        n_outputs_max=planner.n_outputs_max,
    )
    lines: dict[str, Line] = {}
    for i, label in enumerate(types):
        a, b = answers[2 * i], answers[2 * i + 1]
        if not (a.refused or b.refused):
            lines[label] = _line(points, a, b)
    return lines


def _line(points: tuple[int, int], a: Exact, b: Exact) -> Line:
    return Line(points, (a.cache, b.cache), (a.compute, b.compute), max(len(a.cells), 1) + 1)


# --------------------------------------------------------------------------- remembering


def _identity(where: Path | ByteSource, key: str, settings: Sequence[CachePair]) -> str:
    """A name for what was asked of which file with which engine."""
    if not key:
        if not isinstance(where, Path):
            raise ValueError("what is said of a file on a server cannot be remembered without its identity")
        info = where.stat()
        key = f"{os.path.realpath(where)} {info.st_size} {info.st_mtime_ns}"
    spec = find_spec("llama_cpp")
    origin = Path(spec.origin) if spec and spec.origin else Path()
    engine = f"{origin} {origin.stat().st_mtime_ns}"
    text = "\n".join((key, engine, *(p.label for p in settings)))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _remembered(place: Path) -> dict[str, Line] | None:
    """What was remembered, None if nothing (or nothing readable) was."""
    try:
        saved = json.loads(place.read_text(encoding="utf-8"))
        return {
            str(label): Line(
                (int(x["n_ctx"][0]), int(x["n_ctx"][1])),
                (int(x["cache"][0]), int(x["cache"][1])),
                (int(x["compute"][0]), int(x["compute"][1])),
                int(x["buffers"]),
            )
            for label, x in saved.items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _remember(place: Path, lines: dict[str, Line]) -> None:
    """Write the answers; that it cannot be done is no reason to fail."""
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = place.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps({label: asdict(line) for label, line in lines.items()}), encoding="utf-8")
        part.replace(place)
    except OSError:
        pass
