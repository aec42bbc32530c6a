"""Choose the length of the context, beside what every cache setting could hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import events, on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Label

from app.chat.format import count, fit, setting
from app.chat.messages import LengthWanted
from app.chat.panel import bars
from app.chat.panel.bars import Line, Piece
from app.chat.panel.lines import Lines
from app.chat.panel.stretch_view import Scale, same_setting
from app.chat.screens.dialog import Dialog
from app.chat.screens.figures_source import FiguresSource
from app.chat.screens.lengths import stops
from app.chat.screens.switch_preview import SwitchPreview
from app.engine.protocol import Status
from app.lengths import read_length
from models.plan import round_up
from models.stretch_row import StretchRow
from quantize.errors import StretchError

_TALL = 24
"""Height of the terminal from which the lengths to compare with have lines of their own."""

_NAME = 12
_REACH = 11


class LengthChooser(Dialog):
    """A scale with the lengths that matter, a number to type, and the preview of the change."""

    CSS_PATH = Dialog.sheets("length_chooser.tcss")
    HEADING = "Length of the context"
    AUTO_FOCUS = "#length-scale"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "change", "change", priority=True),
        Binding("left,right", "noop", "shorter, longer", key_display="← →"),
        Binding("tab", "other", "type a number", key_display="tab"),
        Binding("shift+tab", "other", show=False),
    ]

    def __init__(self, session: FiguresSource) -> None:
        super().__init__()
        self._session = session
        self._scale = LengthScale()
        self._input = Input(id="length-input", max_length=14, select_on_focus=False)
        self._preview = SwitchPreview()

    def body(self) -> Iterable[Widget]:
        yield Horizontal(Label("Tokens", markup=False), self._input, id="number")
        yield self._scale
        yield self._preview

    def on_mount(self) -> None:
        status, loaded = self._session.status, self._session.loaded
        n_ctx = status.n_ctx if status else (loaded.n_ctx if loaded else 0)
        self._scale.show(status, loaded.model.n_ctx_train if loaded else 0)
        self._scale.move_to(n_ctx)
        self._input.value = count(n_ctx)
        self._preview.show_now(status)
        self.set_interval(0.5, self._refresh)
        self._ask(self._scale.chosen)

    def _refresh(self) -> None:
        status, loaded = self._session.status, self._session.loaded
        self._scale.show(status, loaded.model.n_ctx_train if loaded else 0)
        self._preview.show_now(status)

    # ---------------------------------------------------------------- what is chosen

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if not self._input.has_focus:
            return
        n_ctx = read_length(event.value)
        self._input.set_class(n_ctx is None, "-invalid")
        if n_ctx is None:
            self._preview.show(None, problem="Type a number of tokens, for example 16384 or 16k.")
            return
        self._scale.move_to(round_up(n_ctx))
        self._ask(round_up(n_ctx))

    def on_length_scale_moved(self) -> None:
        """The scale was moved: the number follows."""
        self._input.remove_class("-invalid")
        self._input.value = count(self._scale.chosen)
        self._ask(self._scale.chosen)

    def on_key(self, event: events.Key) -> None:
        if self._scale.has_focus and event.character and event.character.isdigit():
            self._input.value = event.character
            self._input.focus()
            self._input.cursor_position = 1
            event.stop()

    def action_other(self) -> None:
        """From the scale to the number and back."""
        if self._scale.has_focus:
            self._input.focus()
            self._input.action_select_all()
        else:
            self._scale.focus()

    def action_noop(self) -> None:
        """The scale and the number use these keys themselves."""

    def action_change(self) -> None:
        """Ask for the length that is shown."""
        if self._input.has_focus and read_length(self._input.value) is None:
            self.app.bell()
            return
        status = self._session.status
        if status is not None and self._scale.chosen == status.n_ctx:
            self.dismiss()
            return
        self.wish(LengthWanted(self._scale.chosen))

    @work(exclusive=True, group="preview")
    async def _ask(self, n_ctx: int) -> None:
        status = self._session.status
        try:
            preview = await self._session.preview_cache(n_ctx=n_ctx)
        except StretchError as error:
            self._preview.show(None, problem=str(error))
            return
        loaded = self._session.loaded
        trained = loaded.model.n_ctx_train if loaded else 0
        remark = "The model was not trained for this length." if 0 < trained < n_ctx else ""
        self._preview.show(preview, remark=remark, same=status is not None and n_ctx == status.n_ctx)


class LengthScale(Lines, can_focus=True):
    """A logarithmic scale with a handle; below it what each setting could hold."""

    class Moved(Message):
        """The handle is elsewhere."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,down", "step(-1)", "Shorter", show=False),
        Binding("right,up", "step(1)", "Longer", show=False),
        Binding("home", "step(-99)", "Shortest", show=False),
        Binding("end", "step(99)", "Longest", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="length-scale")
        self._status: Status | None = None
        self._n_ctx_train = 0
        self.chosen = 0
        """The length at the handle."""

    def show(self, status: Status | None, n_ctx_train: int) -> None:
        """Take fresh figures."""
        self._status, self._n_ctx_train = status, n_ctx_train
        self.redraw()

    def move_to(self, n_ctx: int) -> None:
        """Put the handle somewhere without telling anybody."""
        self.chosen = n_ctx
        self.redraw()

    # ---------------------------------------------------------------- keys and mouse

    def _stops(self) -> list[int]:
        status = self._status
        if status is None:
            return [self.chosen]
        row = next((r for r in status.rows if _is_current(r, status)), None)
        longest = max(self._n_ctx_train, status.n_ctx, row.max_ctx if row else 0)
        marks = [status.n_used, status.n_ctx, self._n_ctx_train]
        if row is not None and row.max_ctx >= 256:
            marks.append(row.max_ctx // 256 * 256)
        return stops(max(256, status.n_used), longest, [m for m in marks if m > 0])

    def action_step(self, step: int) -> None:
        """Go to the next length that people choose."""
        found = self._stops()
        if step > 0:
            later = [n for n in found if n > self.chosen] or found[-1:]
            self._choose(later[min(len(later), step) - 1])
        else:
            earlier = [n for n in found if n < self.chosen] or found[:1]
            self._choose(earlier[-min(len(earlier), -step)])

    def on_click(self, event: events.Click) -> None:
        room = self._room(self.size.width)
        share = (event.x - _NAME + 0.5) / room
        if not 0 <= share <= 1:
            return
        scale = self._scale()
        wanted = scale.low * (scale.high / scale.low) ** share
        self._choose(min(self._stops(), key=lambda n: abs(scale(n) - scale(wanted))))

    def _choose(self, n_ctx: int) -> None:
        if n_ctx != self.chosen:
            self.chosen = n_ctx
            self.redraw()
            self.post_message(self.Moved())

    # ---------------------------------------------------------------- drawing

    @staticmethod
    def _room(width: int) -> int:
        return max(10, width - _NAME - _REACH)

    def _scale(self) -> Scale:
        # From the lengths to choose from, so that it stands still while the handle moves.
        found = self._stops()
        low = 1 << max(0, (found[0] // 2).bit_length() - 1)
        return Scale(low, max(found[-1], 2 * low))

    def build(self, width: int) -> Sequence[Line]:
        g, status, scale = self.glyphs, self._status, self._scale()
        room = self._room(width)
        handle = Piece(g.here, "title" if self.has_focus else "value")
        track = bars.thin_bar(scale(self.chosen), room, "cache", g)
        lines: list[Line] = [
            (
                Piece(fit("length", _NAME), "muted"),
                *bars.overlay(track, scale.cell(self.chosen, room), handle),
                Piece(fit(count(self.chosen), _REACH, ">"), "current"),
            ),
            (Piece(" " * _NAME), Piece(scale.axis(room), "faint"), Piece(" " * _REACH)),
        ]
        if status is None:
            return lines
        marks = [("used", status.n_used), ("now", status.n_ctx), ("trained", self._n_ctx_train)]
        marks = [(name, n) for name, n in marks if n > 0]
        if self.screen.size.height < _TALL:
            text = f" {g.dot} ".join(f"{name} {count(n)}" for name, n in marks)
            lines.append((Piece(fit(text, width), "muted"),))
        else:
            lines += [self._mark_line(name, n, scale, room) for name, n in marks]
        lines.append((Piece(fit("fits now", width), "faint"),))
        for row in status.rows:
            if not row.refused:
                current = _is_current(row, status)
                bar = bars.thin_bar(scale(row.max_ctx), room, "cache" if current else "weights", g)
                bar = bars.overlay(bar, scale.cell(self.chosen, room), Piece(g.tick, "value"))
                holds = row.max_ctx >= self.chosen
                name = f"{g.mark if current else ' '} {setting(row.type_k, row.type_v, row.tail)}"
                style = "current" if current else "value" if holds else "faint"
                reach = Piece(fit(count(row.max_ctx), _REACH, ">"), style if holds else "warning")
                lines.append((Piece(fit(name, _NAME), style), *bar, reach))
        return lines

    def _mark_line(self, name: str, n: int, scale: Scale, room: int) -> Line:
        cell = scale.cell(n, room)
        text = " " * cell + self.glyphs.tick
        return (
            Piece(fit(name, _NAME), "muted"),
            Piece(fit(text, room), "tick"),
            Piece(fit(count(n), _REACH, ">"), "muted"),
        )


def _is_current(row: StretchRow, status: Status) -> bool:
    return same_setting(row, status.type_k, status.type_v, status.tail)
