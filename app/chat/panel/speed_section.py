"""SPEED: how fast the prompt is read, how fast the reply is written, how soon it begins.

It says with how many threads that is; while other programs keep cores busy these are fewer."""

from __future__ import annotations

from collections.abc import Sequence

from app.chat.format import DASH, RATE_WIDTH, duration, fit, rate
from app.chat.panel.bars import Line, Piece
from app.chat.panel.lines import Density, Lines, sides


class SpeedSection(Lines):
    """Three figures under three names."""

    def __init__(self) -> None:
        super().__init__(id="speed")
        self._figures: tuple[float, float, float] = (0.0, 0.0, 0.0)
        self._threads = 0

    def show(self, prefill_tps: float, generate_tps: float, first_token_s: float, n_threads: int = 0) -> None:
        """Take fresh figures: tokens per second and seconds, 0 for what is not known.

        Args:
            n_threads: threads that write; 0 is not told.
        """
        self._figures = (prefill_tps, generate_tps, first_token_s)
        self._threads = n_threads
        self.redraw()

    def build(self, width: int) -> Sequence[Line]:
        reading, writing, first = self._figures
        unit = " t/s"
        cells = (
            ("reading", fit(rate(reading), RATE_WIDTH, ">") + unit, reading > 0),
            ("writing", fit(rate(writing), RATE_WIDTH, ">") + unit, writing > 0),
            ("first token", fit(duration(first) if first > 0 else DASH, 11, ">"), first > 0),
        )
        widths = [max(len(name), len(text)) for name, text, _ in cells]
        note = f"{self._threads} thread{'s' if self._threads > 1 else ''}" if self._threads else ""
        room = width - max(len("SPEED"), len(note)) - sum(widths)
        gap = max(1, min(3, room // 3))
        names: list[Piece] = []
        figures: list[Piece] = []
        for (name, text, known), cell_width in zip(cells, widths, strict=True):
            names.append(Piece(" " * gap + fit(name, cell_width, ">"), "muted"))
            figures.append(Piece(" " * gap + fit(text, cell_width, ">"), "value" if known else "faint"))
        title = (Piece("SPEED", "title"),)
        if self.density == Density.TIGHT:
            return [sides(title, figures, width)]
        return [sides(title, names, width), sides((Piece(note, "muted"),) if note else (), figures, width)]
