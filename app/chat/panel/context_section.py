"""CONTEXT: tokens used, tokens allocated, and what the model was trained for."""

from __future__ import annotations

from collections.abc import Sequence

from app.chat.format import DASH, count, percent
from app.chat.panel import bars
from app.chat.panel.bars import Line, Piece
from app.chat.panel.lines import Density, Lines, sides

AMBER, RED = 0.80, 0.95
"""Shares of the context from which the figures turn amber and red."""


def fill_style(n_used: int, n_ctx: int, calm: str = "cache") -> str:
    """The style of a context that is filled so far."""
    share = n_used / n_ctx if n_ctx > 0 else 0.0
    return "error" if share >= RED else "warning" if share >= AMBER else calm


class ContextSection(Lines):
    """One bar and two lines."""

    def __init__(self) -> None:
        super().__init__(id="context")
        self._n_used = 0
        self._n_ctx = 0
        self._n_ctx_train = 0

    def show(self, n_used: int, n_ctx: int, n_ctx_train: int = 0) -> None:
        """Take fresh figures; 0 for a trained length that is not known."""
        self._n_used, self._n_ctx, self._n_ctx_train = n_used, n_ctx, n_ctx_train
        self.redraw()

    def build(self, width: int) -> Sequence[Line]:
        n_used, n_ctx = self._n_used, self._n_ctx
        title = Piece("CONTEXT", "title")
        if n_ctx <= 0:
            empty = bars.bar(0.0, width, "cache", self.glyphs)
            lines: list[Line] = [sides((title,), (Piece(DASH, "muted"),), width), empty]
            return lines if self.density != Density.ROOMY else [*lines, (Piece(" " * width),)]
        total = count(n_ctx)
        figures = Piece(f"{count(n_used):>{len(total)}} / {total}", fill_style(n_used, n_ctx, "value"))
        full = Piece(f"used {percent(n_used, n_ctx):>4}", fill_style(n_used, n_ctx, "muted"))
        bar = bars.bar(n_used / n_ctx, width, fill_style(n_used, n_ctx), self.glyphs)
        if self.density != Density.ROOMY:
            return [sides((title, Piece("  "), full), (figures,), width), bar]
        trained = ""
        if self._n_ctx_train:
            word = "beyond the trained" if n_ctx > self._n_ctx_train else "trained for"
            trained = f"{word} {count(self._n_ctx_train)}"
        return [
            sides((title,), (figures,), width),
            bar,
            sides((full,), (Piece(trained, "warning" if n_ctx > self._n_ctx_train > 0 else "muted"),), width),
        ]
