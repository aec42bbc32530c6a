"""How many of the newest tokens stay exact: a row of choices below the lists of types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from app.chat.format import count
from app.chat.panel.bars import Line, Piece, clip_line
from app.chat.panel.lines import Lines
from quantize.cache_types import AUTO_TAIL

CHOICES = (AUTO_TAIL, 0, 64, 128, 256, 512, 1024)
_NAMES = {AUTO_TAIL: "auto", 0: "off"}
_LABEL = "   exact  "
_GAP = "  "


class TailChoice(Lines, can_focus=True):
    """One line; left and right move, a click chooses."""

    class Moved(Message):
        """Another window is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1)", "Less", show=False),
        Binding("right,l", "move(1)", "More", show=False),
        Binding("home", "move(-99)", "First", show=False),
        Binding("end", "move(99)", "Last", show=False),
    ]

    DEFAULT_CSS = """
    TailChoice { height: 1; }
    """

    def __init__(self) -> None:
        super().__init__(id="tail")
        self._choices: tuple[int, ...] = CHOICES
        self._at = 0
        self._applies = 0
        self._compressed = True
        self._spans: list[tuple[int, int, int]] = []

    def begin_with(self, wish: int) -> None:
        """Show this as chosen; a number that is not among the choices joins them."""
        self._choices = tuple(sorted({*CHOICES, wish}))
        self._at = self._choices.index(wish)
        self.redraw()

    def applies(self, tail: int, *, compressed: bool) -> None:
        """Say what comes of the choice with the types above.

        Args:
            tail: tokens of the window then.
            compressed: whether K or V is.
        """
        self._applies, self._compressed = tail, compressed
        self.redraw()

    @property
    def wish(self) -> int:
        """A number of tokens, or ``AUTO_TAIL``."""
        return self._choices[self._at]

    def action_move(self, step: int) -> None:
        """Go on to another choice."""
        self._choose(min(len(self._choices) - 1, max(0, self._at + step)))

    def _choose(self, index: int) -> None:
        if index != self._at:
            self._at = index
            self.redraw()
            self.post_message(self.Moved())

    def on_click(self, event: events.Click) -> None:
        for start, end, index in self._spans:
            if start <= event.x < end:
                self._choose(index)

    def on_focus(self) -> None:
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()

    def build(self, width: int) -> Sequence[Line]:
        pieces = [Piece(_LABEL, "title" if self.has_focus else "muted")]
        self._spans = []
        x = len(_LABEL)
        for i, choice in enumerate(self._choices):
            name = _NAMES.get(choice) or count(choice)
            chosen = i == self._at
            text = f"[{name}]" if chosen else name
            pieces += [Piece(text, "current" if chosen else "muted"), Piece(_GAP)]
            self._spans.append((x, x + cell_len(text), i))
            x += cell_len(text) + len(_GAP)
        if x + cell_len(self._sentence()) <= width:
            pieces.append(Piece(self._sentence(), "faint"))
        return [clip_line(tuple(pieces), width)]

    def _sentence(self) -> str:
        if not self._compressed:
            return "every token is exact"
        return f"newest {count(self._applies)} tokens" if self._applies else "no token beside the cache"
