"""LOSS ON THIS CHAT: what ``/measure`` found. Takes no line before it was asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence

from app.chat.format import age, duration, setting
from app.chat.losses import NOTHING, Losses, kld_text
from app.chat.panel import bars
from app.chat.panel.bars import Line, Piece
from app.chat.panel.lines import Density, Lines, sides

_GAP = 2


class LossSection(Lines):
    """A title, a thin bar while it is measured, and the settings with their KLD.

    Where lines are scarce it takes none: the figures then stand in the rows of the table only.
    """

    DEFAULT_CSS = """
    LossSection { display: none; }
    LossSection.-known { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(id="loss")
        self._losses: Losses = NOTHING

    def show(self, losses: Losses) -> None:
        """Take what is known now."""
        self._losses = losses
        self.set_class(losses is not NOTHING, "-known")
        self.redraw()

    def height(self, width: int) -> int:
        """Lines that it takes now, the empty one after it included."""
        return len(self.build(width)) + (self.density >= Density.AIRY) if self.has_class("-known") else 0

    def build(self, width: int) -> Sequence[Line]:
        losses = self._losses
        if losses is NOTHING or self.density == Density.TIGHT:
            return []
        title = Piece("LOSS on this chat", "title")
        if losses.running:
            left = f", {duration(losses.eta_s)} left" if losses.eta_s >= 0 else ""
            right = Piece(f"measuring {losses.fraction:4.0%}{left}", "current")
        else:
            right = Piece(f"measured {_ago(losses.measured_at)}", "muted")
        lines = [sides((title,), (right,), width)]
        if losses.running and self.density >= Density.AIRY:
            lines.append(bars.thin_bar(losses.fraction, width, "cache", self.glyphs))
        return [*lines, *self._settings(width)]

    def _settings(self, width: int) -> list[Line]:
        """The settings in columns, in their order: a name and its KLD."""
        cells = [(setting(*key), kld_text(loss.kld)) for key, loss in self._losses.by_setting.items()]
        if not cells:
            return []
        name = max(len(n) for n, _ in cells)
        value = max(len(v) for _, v in cells)
        cell = name + 1 + value
        per_line = max(1, (width - 2 + _GAP) // (cell + _GAP))
        lines: list[Line] = []
        for first in range(0, len(cells), per_line):
            line: list[Piece] = [Piece("  ")]
            for n, v in cells[first : first + per_line]:
                line += [Piece(f"{n:<{name}} ", "muted"), Piece(f"{v:>{value}}", "value"), Piece(" " * _GAP)]
            lines.append(bars.clip_line(tuple(line), width))
        return lines


def _ago(then: float) -> str:
    found = age(then, time.time())
    return "now" if found == "now" else f"{found} ago"
