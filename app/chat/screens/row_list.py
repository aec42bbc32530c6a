"""A list to choose from: rows of styled lines, drawn only where they are visible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from app.chat.format import fit
from app.chat.panel.bars import Line, Piece
from app.chat.panel.styled import STYLES, Styled, css

_KEEPS_ITS_COLOUR = {"cache", "weights", "track", "beyond", "tick"}
"""Parts of bars: under the cursor they look as elsewhere."""

Draw = Callable[[int], Sequence[Line]]
"""Makes the lines of a row for a width in cells."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of a list, or a heading between entries."""

    key: str
    """What names it; the cursor stays on its key when the rows are replaced."""
    draw: Draw
    """Its lines, always ``height`` of them."""
    height: int = 1
    selectable: bool = True
    """False for headings."""


def heading(text: str, first: bool) -> Row:
    """A heading between entries, set off from what is above it unless it is the first row."""

    def draw(width: int) -> Sequence[Line]:
        line = (Piece(fit(f" {text}", width), "title"),)
        return [line] if first else [(Piece(" "),), line]

    return Row(f"heading {text}", draw, 1 if first else 2, selectable=False)


class RowList(ScrollView, Styled, can_focus=True):
    """Rows, a cursor and a mouse.

    Args:
        active: Show the cursor in its full colours even without the focus, because keys reach
            the list from an input beside it.
    """

    @dataclass
    class Moved(Message):
        """The cursor is on another row; an empty key if there is none."""

        rows: RowList
        key: str

        @property
        def control(self) -> RowList:
            return self.rows

    @dataclass
    class Chosen(Message):
        """Enter or a click on the row under the cursor."""

        rows: RowList
        key: str

        @property
        def control(self) -> RowList:
            return self.rows

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "edge(-1)", "First", show=False),
        Binding("end", "edge(1)", "Last", show=False),
        Binding("enter", "choose", "Choose", show=False),
    ]

    COMPONENT_CLASSES: ClassVar[set[str]] = set(STYLES)

    DEFAULT_CSS = """
    RowList {
        height: 1fr;
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
    }
    """ + css("RowList")

    ALLOW_SELECT = False

    def __init__(self, *, active: bool = False, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._active = active
        self._rows: Sequence[Row] = ()
        self._places: list[tuple[int, int]] = []
        """For every line the index of its row and which of the row's lines it is."""
        self._tops: list[int] = []
        self._drawn: dict[int, Sequence[Line]] = {}
        self._cursor: int | None = None
        self._hover: int | None = None

    # ---------------------------------------------------------------- content

    def set_rows(self, rows: Sequence[Row], cursor: str | None = None) -> None:
        """Replace the rows. The cursor goes to the key ``cursor``, else stays on its own, else
        goes to the first row."""
        wanted = cursor if cursor is not None else self.cursor_key
        before = self.cursor_key
        self._rows = rows
        self._places = [(i, j) for i, row in enumerate(rows) for j in range(row.height)]
        self._tops = []
        top = 0
        for row in rows:
            self._tops.append(top)
            top += row.height
        self._drawn.clear()
        self._hover = None
        keys = {row.key: i for i, row in enumerate(rows) if row.selectable}
        self._cursor = keys.get(wanted, next(iter(keys.values()), None))
        self.virtual_size = Size(max(1, self.size.width), len(self._places))
        self.refresh()
        self._see_cursor()
        if self.cursor_key != before:
            self.post_message(self.Moved(self, self.cursor_key))

    @property
    def cursor_key(self) -> str:
        """The key of the row under the cursor, or empty."""
        return self._rows[self._cursor].key if self._cursor is not None else ""

    @property
    def keys(self) -> list[str]:
        """Keys of all rows that can be chosen, in their order."""
        return [row.key for row in self._rows if row.selectable]

    def move_to(self, key: str) -> None:
        """Put the cursor on a row."""
        for i, row in enumerate(self._rows):
            if row.selectable and row.key == key:
                self._go(i)

    def redraw(self) -> None:
        """Draw the rows again: what they show has changed."""
        self._drawn.clear()
        self.refresh()

    @property
    def plain_text(self) -> str:
        """All rows as text."""
        lines = [line for i in range(len(self._rows)) for line in self._lines_of(i)]
        return "\n".join("".join(p.text for p in line).rstrip() for line in lines)

    # ---------------------------------------------------------------- keys and mouse

    def action_move(self, step: int) -> None:
        """Go to the next row that can be chosen."""
        selectable = [i for i, row in enumerate(self._rows) if row.selectable]
        if not selectable:
            return
        at = selectable.index(self._cursor) if self._cursor in selectable else 0
        self._go(selectable[min(len(selectable) - 1, max(0, at + step))])

    def action_page(self, step: int) -> None:
        """Go a screenful up or down."""
        height = self._rows[self._cursor].height if self._cursor is not None else 1
        self.action_move(step * max(1, self.size.height // height - 1))

    def action_edge(self, step: int) -> None:
        """Go to the first or the last row."""
        self.action_move(step * len(self._rows))

    def action_choose(self) -> None:
        """Choose the row under the cursor."""
        if self._cursor is not None:
            self.post_message(self.Chosen(self, self.cursor_key))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        hover = self._row_at(event.y)
        if hover != self._hover:
            self._hover = hover
            self.refresh()

    def on_leave(self) -> None:
        if self._hover is not None:
            self._hover = None
            self.refresh()

    def on_click(self, event: events.Click) -> None:
        index = self._row_at(event.y)
        if index is None:
            return
        if index == self._cursor:
            self.action_choose()
        else:
            self._go(index)

    def _row_at(self, y: int) -> int | None:
        line = y + self.scroll_offset.y
        if not 0 <= line < len(self._places):
            return None
        index = self._places[line][0]
        return index if self._rows[index].selectable else None

    def _go(self, index: int) -> None:
        if index != self._cursor:
            self._cursor = index
            self.refresh()
            self.post_message(self.Moved(self, self.cursor_key))
        self._see_cursor()

    def _see_cursor(self) -> None:
        if self._cursor is None or not self.is_mounted:
            return
        top, height = self._tops[self._cursor], self._rows[self._cursor].height
        if self._cursor and not self._rows[self._cursor - 1].selectable:
            # The heading of a group comes into view with its first row.
            top -= self._rows[self._cursor - 1].height
            height += self._rows[self._cursor - 1].height
        self.scroll_to_region(Region(0, top, 1, height), animate=False, force=True)

    # ---------------------------------------------------------------- drawing

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _theme: self.call_after_refresh(self.redraw))

    def on_resize(self, event: events.Resize) -> None:
        self.virtual_size = Size(max(1, event.size.width), len(self._places))
        self.redraw()
        self._see_cursor()

    def _lines_of(self, index: int) -> Sequence[Line]:
        lines = self._drawn.get(index)
        if lines is None:
            lines = self._drawn[index] = self._rows[index].draw(self.scrollable_content_region.width)
        return lines

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        line_number = y + self.scroll_offset.y
        if line_number >= len(self._places):
            return self.strip_of((), width)
        index, part = self._places[line_number]
        lines = self._lines_of(index)
        line = lines[part] if part < len(lines) else ()
        if index == self._cursor:
            style = "cursor" if self.has_focus or self._active else "hover"
        elif index == self._hover:
            style = "hover"
        else:
            return self.strip_of(line, width)
        ends_with_bar = bool(line) and line[-1].style in _KEEPS_ITS_COLOUR
        return self.strip_of(highlight(line, style), width, "" if ends_with_bar else style)


def highlight(line: Line, style: str) -> Line:
    """``line`` under the cursor or the mouse."""
    if style == "hover":
        return tuple(
            Piece(p.text, f"{p.style} hover".strip() if "|" not in p.style else p.style) for p in line
        )
    return tuple(p if p.style in _KEEPS_ITS_COLOUR else Piece(p.text, style) for p in line)
