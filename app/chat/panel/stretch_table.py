"""HOW FAR CAN IT STRETCH: one row per cache setting; choosing a row switches to it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.widget import Widget

from app.chat.format import fit, setting
from app.chat.losses import NOTHING, Losses, loss_sentence
from app.chat.messages import CacheWanted, PanelLeft, PreviewWanted
from app.chat.panel.bars import Line, Piece
from app.chat.panel.lines import Density, Lines, sides
from app.chat.panel.stretch_view import (
    Columns,
    Scale,
    awaited,
    gain_sentence,
    long_bar,
    same_setting,
    way_sentence,
)
from app.engine.protocol import CachePreview, Status
from app.plain_text import one_line, sentence_case
from models.stretch_row import StretchRow
from quantize.cache_types import PRESETS

TITLE = "HOW FAR CAN IT STRETCH?"


class StretchTable(Lines, can_focus=True):
    """The table. The arrow keys or the mouse move over the rows and preview the switch."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("home,g", "move(-99)", "First", show=False),
        Binding("end,G", "move(99)", "Last", show=False),
        Binding("enter,space", "choose", "Switch to this row"),
        Binding("escape", "leave", "Back"),
    ]

    DEFAULT_CSS = """
    StretchTable:focus > .title { color: $text-primary; }
    """

    def __init__(self) -> None:
        super().__init__(id="stretch")
        self.long_bars = False
        """Whether every row has a second line for its bar."""
        self._rows: tuple[StretchRow, ...] = ()
        self._setting: tuple[str, str, int] = ("", "", 0)
        self._n_ctx = 0
        self._n_ctx_train = 0
        self._cursor: int | None = None
        self._hover: int | None = None
        self._preview: CachePreview | None = None
        self._losses: Losses = NOTHING
        self._measuring = -1.0
        self._note = ""
        self._outcome = ""
        self._scale: Scale | None = None

    # ---------------------------------------------------------------- what is shown

    def show_status(self, status: Status, n_ctx_train: int = 0) -> None:
        """Take fresh rows. The cursor stays on its setting, wherever that row is now."""
        at = self._rows[self._cursor] if self._cursor is not None else None
        before = self._setting
        self._rows = status.rows
        self._setting = (status.type_k, status.type_v, status.tail)
        self._n_ctx, self._n_ctx_train = status.n_ctx, n_ctx_train
        self._measuring = status.measuring
        if before != self._setting:
            self._preview = None
        if at is not None:
            self._cursor = self._index(at.type_k, at.type_v, at.tail)
        if self._hover is not None and self._hover >= len(self._rows):
            self._hover = None
        if self._cursor is None and self.has_focus:
            self._cursor = self._current_index() or 0
        if not self._rows:
            self._cursor = None
        self.redraw()

    def show_preview(self, preview: CachePreview) -> None:
        """Take the engine's answer to ``PreviewWanted``."""
        self._preview = preview
        self.redraw()

    def show_losses(self, losses: Losses) -> None:
        """Take what was measured on the conversation: a column, and a sentence in the preview."""
        self._losses = losses
        self.redraw()

    def show_note(self, text: str) -> None:
        """Say below the rows what goes on now (``switching ...``); empty for nothing."""
        self._note = text
        self.redraw()

    def show_outcome(self, text: str) -> None:
        """Say below the rows what the last switch gave, for the time in which nothing goes on."""
        self._outcome = text
        self.redraw()

    def clear(self) -> None:
        """Forget the rows: another model follows, or none."""
        self._rows, self._setting, self._cursor, self._hover = (), ("", "", 0), None, None
        self._preview, self._note, self._outcome, self._scale = None, "", "", None
        self.redraw()

    @property
    def n_rows(self) -> int:
        """Rows in the table, awaited ones counted."""
        return len(self._rows) or len(PRESETS)

    @property
    def _head(self) -> int:
        """Lines above the first row."""
        return 1 if self.density == Density.TIGHT else 2

    @property
    def _below(self) -> int:
        """Lines below the last row, reserved so that nothing moves when they fill."""
        return 2 if self.density in (Density.TIGHT, Density.AIRY) else 3

    @property
    def row_under_cursor(self) -> StretchRow | None:
        """The row that is previewed now."""
        index = self._hover if self._hover is not None else self._cursor
        return self._rows[index] if index is not None and index < len(self._rows) else None

    @property
    def current_row(self) -> StretchRow | None:
        """The row of the setting in use, if the table has it."""
        index = self._current_index()
        return None if index is None else self._rows[index]

    def _current_index(self) -> int | None:
        return self._index(*self._setting)

    def _index(self, type_k: str, type_v: str, tail: int) -> int | None:
        for i, row in enumerate(self._rows):
            if same_setting(row, type_k, type_v, tail):
                return i
        return None

    # ---------------------------------------------------------------- keys and mouse

    def on_focus(self) -> None:
        if self._cursor is None and self._rows:
            self._cursor = self._current_index() or 0
        self._see_cursor()
        self.redraw()

    def on_blur(self) -> None:
        self._cursor = None
        self.redraw()

    def action_move(self, step: int) -> None:
        """Move the cursor, not past the ends."""
        if not self._rows:
            return
        self._hover = None
        start = self._cursor if self._cursor is not None else self._current_index() or 0
        self._cursor = min(len(self._rows) - 1, max(0, start + step))
        self._see_cursor()
        self._ask_preview()

    def action_choose(self) -> None:
        """Switch to the row under the cursor."""
        row = self.row_under_cursor
        if row is None or row.refused or same_setting(row, *self._setting):
            self.app.bell()
            return
        self.post_message(CacheWanted(row.type_k, row.type_v))

    def action_leave(self) -> None:
        """Give the focus back without a change."""
        self.post_message(PanelLeft())

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self._point_at(event.y)

    def on_leave(self) -> None:
        if self._hover is not None:
            self._hover = None
            self.redraw()

    def on_click(self, event: events.Click) -> None:
        self._point_at(event.y)
        if self._hover is not None:
            self._cursor = self._hover
            self.action_choose()

    def _point_at(self, y: int) -> None:
        index = (y - self._head) // (2 if self.long_bars else 1)
        hover = index if 0 <= index < len(self._rows) else None
        if hover != self._hover:
            self._hover = hover
            self._ask_preview()

    def _ask_preview(self) -> None:
        row = self.row_under_cursor
        if row is not None and not row.refused and not same_setting(row, *self._setting):
            self.post_message(PreviewWanted(row.type_k, row.type_v))
        self.redraw()

    def _see_cursor(self) -> None:
        parent = self.parent
        if self._cursor is not None and isinstance(parent, Widget):
            # The row and the detail below the table: as much of both as fits.
            height = 2 if self.long_bars else 1
            top = self._head + self._cursor * height
            area = Region(0, top, 1, (len(self._rows) - self._cursor) * height + self._below)
            parent.scroll_to_region(area.translate(self.virtual_region.offset), animate=False, top=False)

    # ---------------------------------------------------------------- drawing

    def build(self, width: int) -> Sequence[Line]:
        g = self.glyphs
        columns = Columns(self._rows, width, self.long_bars, self._losses, self.density == Density.TIGHT)
        scale = self._scale = Scale.over(self._rows, self._n_ctx, self._n_ctx_train, self._scale)
        if self.density == Density.TIGHT:
            lines = [columns.head("REACH")]
        else:
            lines = [sides((Piece(TITLE, "title"),), (), width), columns.head()]
        pointed = self._hover if self._hover is not None else self._cursor
        for i, row in enumerate(self._rows):
            current = same_setting(row, *self._setting)
            line = columns.row(row, g, self._n_ctx, current)
            if i == pointed:
                style = "cursor" if self.has_focus and self._hover is None else "hover"
                line = tuple(
                    Piece(p.text, style if style == "cursor" else f"{p.style} {style}") for p in line
                )
            if self.long_bars:
                bar = long_bar(row, scale, width, g, current, self._n_ctx, self._n_ctx_train)
                lines += [line, bar]
            else:
                lines.append((*line, *columns.small_bar(row, scale, g, current, self._n_ctx_train)))
        if not self._rows:
            blank = (Piece(" " * width),)
            for line in awaited(columns):
                lines += [line, blank] if self.long_bars else [line]
            lines += [blank] if self.long_bars else []
        elif self.long_bars:
            lines.append((Piece("  " + scale.axis(width - 2), "faint"),))
        return [*lines, *self._detail(width)]

    def _detail(self, width: int) -> list[Line]:
        text, style = self._detail_text()
        lines = textwrap.wrap(
            one_line(text), max(10, width - 2), max_lines=self._below, placeholder=self.glyphs.ellipsis
        )
        lines += [""] * (self._below - len(lines))
        return [(Piece("  " + fit(line, width - 2), style),) for line in lines]

    def _detail_text(self) -> tuple[str, str]:
        row, current = self.row_under_cursor, self.current_row
        if row is not None:
            name = setting(row.type_k, row.type_v, row.tail)
            if row.refused:
                return f"{name}: {row.refused}", "warning"
            if current is not None and row == current:
                limit = "the trained length" if row.limit == "trained" else "the memory that is available"
                return f"{name} is in use; its reach is limited by {limit}.", "muted"
            text = f"{name}: {gain_sentence(row, current)}"
            loss = self._losses.of(row.type_k, row.type_v, row.tail)
            if loss is not None:
                text += f" {loss_sentence(loss)}"
            elif row.loss.known:
                text += f" {sentence_case(row.loss.sentence)}."
            p = self._preview
            if p is None or (p.type_k, p.type_v, p.tail) != (row.type_k, row.type_v, row.tail):
                return text, "warning" if row.loss.breaks else "value"
            if p.warning and loss is None:
                return p.warning, "warning"
            return (f"{text} {way_sentence(p)}", "value") if p.fits else (p.sentence, "warning")
        if self._note or self._outcome:
            return self._note or self._outcome, "current" if self._note else "muted"
        usable = [r for r in self._rows if not r.refused]
        if self._measuring >= 0:
            return f"Measuring what each setting costs on this model: {self._measuring:.0%}", "faint"
        if usable and all(r.limit == "trained" for r in usable):
            return "Every setting reaches the length that the model was trained for.", "faint"
        return "", "faint"
