"""The context is full: the ways out, each with what it costs, each with a key."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.style import Style
from textual.widget import Widget

from app.chat.format import count
from app.chat.markdown.layout import MUTED, wrap
from app.engine.protocol import ContextFull, FullOption
from app.plain_text import one_line

NOTHING = "None of these for now"


class FullChoice(Widget, can_focus=True):
    """Takes the focus when it appears, because the reply cannot go on without it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("enter", "choose", "Choose"),
        Binding("escape", "leave", "None of these"),
        *(Binding(str(n), f"pick({n})", show=False) for n in range(1, 10)),
    ]

    DEFAULT_CSS = """
    FullChoice { width: 1fr; height: auto; border-left: outer $warning; padding: 0 1; }
    """

    class Moved(Message):
        """Another choice is marked."""

    class Chosen(Message):
        """The user chose; None stands for none of them."""

        def __init__(self, option: FullOption | None) -> None:
            super().__init__()
            self.option = option

    def __init__(self, full: ContextFull) -> None:
        super().__init__(id="full-choice")
        self.auto_links = False
        self.full = full
        self._cursor = 0
        self._rows: tuple[int, list[tuple[Content, int]]] = (-1, [])

    # ---------------------------------------------------------------- drawing

    def _build(self, width: int) -> list[tuple[Content, int]]:
        """Rows, each with the number of the choice that it belongs to (-1: none)."""
        need, have = count(self.full.n_needed), count(self.full.n_ctx)
        head = f"The context is full: the reply needs {need} tokens and there are {have}."
        if not self.full.options:
            head += " Nothing makes room for that: say it in fewer words (F2) or begin anew (^N)."
        rows = [(row.content.stylize("$text-warning"), -1) for row in wrap(Content(head), width)]
        sentences = [option.sentence for option in self.full.options] + [NOTHING]
        for n, sentence in enumerate(sentences):
            key = str(n + 1) if n < len(self.full.options) else "esc"
            current = n == self._cursor
            for line, row in enumerate(wrap(Content(one_line(sentence)), max(8, width - 8))):
                mark = "▸" if current and not line else " "
                label = key if not line else ""
                style = "$text-primary" if current else MUTED if key == "esc" else ""
                content = Content.assemble(
                    (f"{mark} ", "$text-primary"),
                    (f"{label:>3}  ", "bold $text-primary"),
                    row.content.stylize(style),
                )
                rows.append((content.stylize(Style.from_meta({"@click": f"pick({n + 1})"})), n))
        return rows

    def _at(self, width: int) -> list[tuple[Content, int]]:
        if self._rows[0] != width:
            self._rows = (width, self._build(width))
        return self._rows[1]

    def render(self) -> Content:
        return Content("\n").join(row for row, _ in self._at(max(1, self.content_size.width)))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._at(width))

    @property
    def marked(self) -> tuple[int, int]:
        """The first and the last row of what is marked; the question belongs to the first choice."""
        rows = self._at(max(1, self.content_size.width))
        own = [n for n, (_, place) in enumerate(rows) if place == self._cursor]
        return (own[0] if self._cursor else 0), own[-1]

    # ---------------------------------------------------------------- choosing

    def _move_to(self, place: int) -> None:
        self._cursor = place % (len(self.full.options) + 1)
        self._rows = (-1, [])
        self.refresh()
        self.post_message(self.Moved())

    def action_move(self, step: int) -> None:
        """Move the mark."""
        self._move_to(self._cursor + step)

    def action_choose(self) -> None:
        """Take what is marked."""
        self.action_pick(self._cursor + 1)

    def action_pick(self, number: int) -> None:
        """Take a choice by its number."""
        options = self.full.options
        if number > len(options) + 1:
            return
        self.post_message(self.Chosen(options[number - 1] if number <= len(options) else None))

    def action_leave(self) -> None:
        """Take none."""
        self.post_message(self.Chosen(None))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        rows = self._at(max(1, self.content_size.width))
        offset = event.get_content_offset(self)
        if (
            offset is not None
            and 0 <= offset.y < len(rows)
            and (n := rows[offset.y][1]) >= 0
            and n != self._cursor
        ):
            self._move_to(n)
