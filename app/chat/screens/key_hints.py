"""One line of keys and what they do; a click does the same."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual import events
from textual.binding import Binding

from app.chat.keys import key_name
from app.chat.panel.bars import Line, Piece
from app.chat.panel.lines import Lines


class KeyHints(Lines):
    """The bindings that a screen wants to be seen. What does not fit is left out from the right,
    the last one never."""

    DEFAULT_CSS = """
    KeyHints { height: 1; dock: bottom; }
    """

    def __init__(self, bindings: Sequence[Binding]) -> None:
        super().__init__()
        self._seen = [b for b in bindings if b.show]
        self._spans: list[tuple[int, int, str]] = []

    def show(self, bindings: Sequence[Binding]) -> None:
        """Show other bindings."""
        seen = [b for b in bindings if b.show]
        if [(b.key, b.description) for b in seen] != [(b.key, b.description) for b in self._seen]:
            self._seen = seen
            self.redraw()

    def build(self, width: int) -> Sequence[Line]:
        pieces: list[Piece] = []
        self._spans = []
        shown = list(self._seen)
        while len(shown) > 1 and sum(map(_width, shown)) - _GAP > width:
            del shown[-2]  # the way out stays
        x = 0
        for binding in shown:
            gap = " " * _GAP if pieces else ""
            pieces += [Piece(gap), Piece(_key(binding), "current"), Piece(f" {binding.description}", "muted")]
            start = x + len(gap)
            x = start + _width(binding) - _GAP
            self._spans.append((start, x, binding.action))
        return [tuple(pieces)]

    async def on_click(self, event: events.Click) -> None:
        for start, end, action in self._spans:
            if start <= event.x < end:
                event.stop()
                await self.screen.run_action(action)


_GAP = 3


def _key(binding: Binding) -> str:
    return key_name(binding.key_display or binding.key.split(",")[0])


def _width(binding: Binding) -> int:
    return _GAP + cell_len(_key(binding)) + 1 + cell_len(binding.description)
