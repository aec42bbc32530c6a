"""MEMORY: what the machine's memory is taken by, predicted beside measured, and its history."""

from __future__ import annotations

from collections.abc import Sequence

from app.chat.format import DASH, SIZE_WIDTH, fit, setting, size, size_change, size_pair
from app.chat.panel import bars
from app.chat.panel.bars import Line, Piece
from app.chat.panel.history import History
from app.chat.panel.lines import Density, Lines, sides
from app.engine.protocol import MemoryFigures, Status

PARTS = ("weights", "repacked", "cache", "buffers", "program", "others")
"""The segments of the bar in their order; the first five are the engine's."""

_LOW, _VERY_LOW = 0.10, 0.04
"""Share of the memory that is still available below which the figure turns amber, then red."""


def engine_parts(memory: MemoryFigures) -> tuple[int, ...]:
    """Bytes of the engine's five parts, as in ``PARTS``."""
    return (
        memory.weights_mapped,
        memory.weights_repacked,
        memory.kv_measured or memory.kv_predicted,
        memory.compute,
        memory.overhead,
    )


def bar_parts(memory: MemoryFigures) -> tuple[int, ...]:
    """Bytes of every segment of the machine's memory; they never exceed its total.

    Pages of a mapped file count as available for the machine, although the engine uses them,
    so what others take is all that is not available and not the engine's own.
    """
    engine = engine_parts(memory)
    own = sum(engine) - memory.weights_mapped
    others = max(0, memory.total - memory.available - own)
    parts = [*engine, others]
    excess = sum(parts) - memory.total
    if excess > 0:
        parts[-1] = max(0, others - excess)
    return tuple(parts)


def merged(parts: Sequence[int]) -> tuple[int, ...]:
    """Segments with the program's own among the buffers, for the form with a line less."""
    weights, repacked, cache, buffers, program, others = parts
    return weights, repacked, cache, buffers + program, others


class MemorySection(Lines):
    """The bar, its legend, predicted and measured, and a sparkline of the engine's memory."""

    def __init__(self) -> None:
        super().__init__(id="memory")
        self.history = History()
        self._memory: MemoryFigures | None = None
        self._setting = ""
        self._kv_bytes = 0

    def show_status(self, status: Status, now: float) -> None:
        """Take fresh figures at the time ``now`` (seconds of a clock that never goes back)."""
        memory = status.memory
        label = f"{setting(status.type_k, status.type_v, status.tail)} {status.n_ctx}"
        kv = memory.kv_measured or memory.kv_predicted
        if self._setting and label != self._setting:
            self.history.mark(now, kv - self._kv_bytes, setting(status.type_k, status.type_v, status.tail))
        self._setting, self._kv_bytes = label, kv
        if memory.rss > 0:
            self.history.add(now, memory.rss)
        self._memory = memory
        self.redraw()

    def clear(self) -> None:
        """Forget the figures: another model follows, or none."""
        self._memory, self._setting, self._kv_bytes = None, "", 0
        self.history.clear()
        self.redraw()

    # ---------------------------------------------------------------- drawing

    def build(self, width: int) -> Sequence[Line]:
        memory = self._memory
        lines = [self._head(memory, width), self._bar(memory, width), *self._legend(memory, width)]
        return lines if self.density == Density.TIGHT else [*lines, *self._sparkline(width)]

    def _head(self, memory: MemoryFigures | None, width: int) -> Line:
        if memory is None or memory.total <= 0:
            return sides((Piece("MEMORY", "title"),), (Piece(DASH, "muted"),), width)
        share = memory.available / memory.total
        style = "error" if share < _VERY_LOW else "warning" if share < _LOW else "value"
        used = size_pair(memory.total - memory.available, memory.total, " of ")
        return sides((Piece("MEMORY", "title"),), (Piece(used, style),), width)

    def _parts(self, memory: MemoryFigures | None) -> list[tuple[str, int | None]]:
        """Style and bytes of every segment; the last is not the engine's."""
        parts: Sequence[int | None] = bar_parts(memory) if memory is not None else (None,) * len(PARTS)
        if self.density != Density.TIGHT:
            return list(zip(PARTS, parts, strict=True))
        fewer = merged(bar_parts(memory)) if memory is not None else (None,) * (len(PARTS) - 1)
        return list(zip((*PARTS[:4], "others"), fewer, strict=True))

    def _bar(self, memory: MemoryFigures | None, width: int) -> Line:
        parts = self._parts(memory) if memory is not None and memory.total > 0 else []
        total = memory.total if memory is not None else 1
        fractions = [(n or 0) / total for _, n in parts]
        g = self.glyphs
        fills = [self._fill(name) for name, _ in parts] if self.textured else ()
        return bars.segments(fractions, [name for name, _ in parts], width, g, fills=fills)

    def _fill(self, name: str) -> str:
        return self.glyphs.textures[PARTS.index(name)]

    def _legend(self, memory: MemoryFigures | None, width: int) -> list[Line]:
        g = self.glyphs
        column = max(20, (width - 3) // 2)
        gap = Piece(" " * max(1, width - 2 * column))

        def entry(label: str, n: int | None, style: str = "", swatch: str = "") -> list[Piece]:
            figure = fit(DASH if n is None else size(n), SIZE_WIDTH, ">")
            return [
                Piece(f"{swatch or ' '} ", style),
                Piece(fit(label, column - 2 - SIZE_WIDTH), "muted"),
                Piece(figure, "value" if n else "faint"),
            ]

        def segment(name: str, n: int | None) -> list[Piece]:
            label = "the rest" if name == "buffers" and self.density == Density.TIGHT else name
            return entry(label, n, name, self._fill(name) if self.textured else g.swatch)

        parts = self._parts(memory)
        left = [segment(name, n) for name, n in parts[:-1]]
        free = entry(
            "available", memory.available if memory else None, "track", g.track if self.textured else g.swatch
        )
        right = [segment(*parts[-1]), free]
        right += [[Piece(" " * column)]] * (len(left) - 4)
        right.append(entry("predicted", memory.predicted_total if memory else None))
        right.append(entry("measured", memory.rss if memory else None))
        return [(*a, gap, *b) for a, b in zip(left, right, strict=True)]

    def _sparkline(self, width: int) -> list[Line]:
        g = self.glyphs
        values = self.history.columns(width)
        known = [v for v in values if v == v]
        high = max(known, default=1.0)
        # The lowest value stands at half height, and small movements are not blown up.
        least = min([*known, high * 0.95])
        low = max(0.0, least - (high - least))
        rows = 2 if self.density == Density.ROOMY else 1
        texts = bars.sparkline(values, rows, low, high, g)
        marks = dict(self.history.mark_columns(width))
        lines: list[Line] = []
        for text in texts:
            line: Line = (Piece(text, "buffers"),)
            for x in marks:
                line = bars.overlay(line, x, Piece(text[x], "value" if self.textured else "current"))
            lines.append(line)
        if self.density != Density.ROOMY:
            return lines
        caption = Piece(f"engine, last {width * self.history.step:.0f} s", "faint")
        if not marks:
            return [*lines, (caption,)]
        last = marks[max(marks)]
        note = f"{g.mark} {last.label}  {size_change(last.n_bytes)}"
        return [*lines, sides((caption,), (Piece(note, "current"),), width)]
