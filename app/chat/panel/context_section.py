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
        total = count(n_ctx)
        figures = f"{count(n_used):>{len(total)}} / {total}" if n_ctx > 0 else DASH
        right = Piece(figures, fill_style(n_used, n_ctx, "value" if n_ctx > 0 else "muted"))
        share = n_used / n_ctx if n_ctx > 0 else 0.0
        style = fill_style(n_used, n_ctx)
        if self.density == Density.TIGHT:
            room = max(4, width - len(title.text) - len(figures) - 4)
            return [(title, Piece("  "), *bars.bar(share, room, style, self.glyphs), Piece("  "), right)]
        bar = bars.bar(share, width, style, self.glyphs)
        used = Piece(
            f"used {percent(n_used, n_ctx):>4}" if n_ctx > 0 else "", fill_style(n_used, n_ctx, "muted")
        )
        if self.density != Density.ROOMY:
            return [sides((title, Piece("  "), used), (right,), width), bar]
        return [sides((title,), (right,), width), bar, sides((used,), (self._trained(),), width)]

    def _trained(self) -> Piece:
        if not self._n_ctx_train:
            return Piece("")
        beyond = self._n_ctx > self._n_ctx_train
        word = "beyond the trained" if beyond else "trained for"
        return Piece(f"{word} {count(self._n_ctx_train)}", "warning" if beyond else "muted")
