"""Choose the types of K and of V and the exact window, with what the switch would need and gain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from app.chat.format import fit
from app.chat.losses import loss_sentence
from app.chat.messages import CacheWanted
from app.chat.panel import bars
from app.chat.panel.bars import Line, Piece
from app.chat.panel.lines import Lines, sides
from app.chat.panel.stretch_view import VERDICT_STYLES, WORD_WIDTH
from app.chat.screens.dialog import Dialog
from app.chat.screens.figures_source import FiguresSource
from app.chat.screens.row_list import Draw, Row, RowList
from app.chat.screens.switch_preview import SwitchPreview
from app.chat.screens.tail_choice import TailChoice
from app.engine.protocol import KEEP_TAIL, CachePreview
from app.plain_text import sentence_case
from quantize.cache_types import AUTO_TAIL, CACHE_TYPES, CacheType
from quantize.errors import CacheTypeError, StretchError
from quantize.lab.loss import UNKNOWN, Loss, least_loss_first

_WITH_BITS, _WITH_UNIT = 3 + 8 + 6 + 1 + WORD_WIDTH - 1, 3 + 8 + 6 + 7 + WORD_WIDTH
"""Cells of a row with the number of bits and the word for the loss, and with the word ``bits`` as well."""

_MOST_BITS = 16.0
"""Where the bars of the lists end; f32 is cut off there."""


class CacheChooser(Dialog):
    """Two lists side by side and a row of windows; what is chosen in them is previewed."""

    CSS_PATH = Dialog.sheets("cache_chooser.tcss")
    HEADING = "The cache"
    AUTO_FOCUS = "#keys"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "switch", "switch"),
        Binding("tab", "go_on(1)", "K, V, exact", key_display="tab"),
        Binding("left,right", "other_list", "K or V", show=False),
        Binding("equals_sign,b", "both", "both alike", key_display="="),
        Binding("r", "reprefill", "read again", key_display="r"),
        Binding("shift+tab", "go_on(-1)", show=False),
    ]

    def __init__(self, session: FiguresSource) -> None:
        super().__init__()
        self._session = session
        self._keys = RowList(id="keys")
        self._values = RowList(id="values")
        self._tail = TailChoice()
        self._note = TypeNote()
        self._preview = SwitchPreview()
        self._sorted = False

    def body(self) -> Iterable[Widget]:
        yield Horizontal(
            Vertical(ListHead("K", "keys"), self._keys),
            Vertical(ListHead("V", "values"), self._values),
            id="lists",
        )
        yield self._tail
        yield self._note
        yield self._preview

    def on_mount(self) -> None:
        status, loaded = self._session.status, self._session.loaded
        now_k = status.type_k if status else (loaded.type_k if loaded else "f16")
        now_v = status.type_v if status else (loaded.type_v if loaded else "f16")
        dims = (loaded.model.head_dim_k, loaded.model.head_dim_v) if loaded else (0, 0)
        self._keys.set_rows(type_rows(self._keys, now_k, dims[0]), now_k)
        self._values.set_rows(type_rows(self._values, now_v, dims[1]), now_v)
        self._tail.begin_with(self._wish_now)
        self._preview.show_now(status)
        self.set_interval(0.5, lambda: self._preview.show_now(self._session.status))
        self._ask()

    # ---------------------------------------------------------------- what is chosen

    @property
    def types(self) -> tuple[str, str]:
        """The names under the two cursors."""
        return self._keys.cursor_key, self._values.cursor_key

    @property
    def tail(self) -> int:
        """The window that is chosen: a number of tokens, or ``AUTO_TAIL``."""
        return self._tail.wish

    @property
    def _wish_now(self) -> int:
        loaded = self._session.loaded
        return loaded.tail_wish if loaded is not None else AUTO_TAIL

    def _unchanged(self) -> bool:
        status = self._session.status
        return (
            status is not None
            and self.types == (status.type_k, status.type_v)
            and self.tail == self._wish_now
        )

    @on(RowList.Moved)
    @on(TailChoice.Moved)
    def _moved(self) -> None:
        self._ask()

    @on(RowList.Chosen)
    def _chosen(self) -> None:
        self.action_switch()

    def action_other_list(self) -> None:
        """Go from K to V and back."""
        (self._values if self._keys.has_focus else self._keys).focus()

    def action_go_on(self, step: int) -> None:
        """Go from K to V to the window and around."""
        stops = (self._keys, self._values, self._tail)
        at = next((i for i, stop in enumerate(stops) if stop.has_focus), 0)
        stops[(at + step) % len(stops)].focus()

    def action_both(self) -> None:
        """Give both the type under the cursor of the list that is in use."""
        here, there = (self._values, self._keys) if self._values.has_focus else (self._keys, self._values)
        there.move_to(here.cursor_key)

    def action_switch(self) -> None:
        """Ask for the two types and the window."""
        if self._unchanged():
            self.dismiss()
            return
        self.wish(CacheWanted(*self.types, tail=self._tail_wish()))

    def _tail_wish(self) -> int:
        return KEEP_TAIL if self.tail == self._wish_now else self.tail

    def action_reprefill(self) -> None:
        """Ask for the two types and an exact reading of the conversation."""
        self.wish(CacheWanted(*self.types, tail=self._tail_wish(), reprefill=True))

    # ---------------------------------------------------------------- the preview

    @work(exclusive=True, group="preview")
    async def _ask(self) -> None:
        type_k, type_v = self.types
        self._note.show(CACHE_TYPES.get(type_k), CACHE_TYPES.get(type_v))
        status = self._session.status
        compressed = CACHE_TYPES[type_k].quantized or CACHE_TYPES[type_v].quantized
        try:
            preview = await self._session.preview_cache(type_k, type_v, tail=self._tail_wish())
        except StretchError as error:
            self._tail.applies(0, compressed=compressed)
            self._preview.show(None, problem=str(error))
            return
        same = self._unchanged()
        self._tail.applies(preview.tail, compressed=compressed)
        self._show_losses(preview)
        if preview.warning and not same:
            self._preview.show(preview, problem=preview.warning)
            return
        loss = self._session.losses.of(type_k, type_v, preview.tail)
        if loss is not None:
            remark = loss_sentence(loss)
        elif compressed and preview.loss.known:
            remark = f"{sentence_case(preview.loss.sentence)}."
        else:
            remark = going_up(status.type_k, status.type_v, type_k, type_v) if status else ""
        self._preview.show(preview, remark=remark, same=same)

    def _show_losses(self, preview: CachePreview) -> None:
        """Say in the lists what each type would cost beside the other one. They are brought into the order
        of loss once: later nothing jumps under the cursor."""
        loaded = self._session.loaded
        if not preview.losses_k or loaded is None:
            return
        status = self._session.status
        now = (status.type_k, status.type_v) if status else (loaded.type_k, loaded.type_v)
        dims = (loaded.model.head_dim_k, loaded.model.head_dim_v)
        sides = zip((self._keys, self._values), now, dims, (preview.losses_k, preview.losses_v), strict=True)
        for rows, current, dim, losses in sides:
            by_name = dict(zip(CACHE_TYPES, losses, strict=True))
            order = rows.keys if self._sorted else None
            rows.set_rows(type_rows(rows, current, dim, by_name, order))
        self._sorted = True


def going_up(from_k: str, from_v: str, to_k: str, to_v: str) -> str:
    """What to say about precision when types get larger again, or about the way back."""
    try:
        before = [CACHE_TYPES[t].bits() for t in (from_k, from_v)]
        after = [CACHE_TYPES[t].bits() for t in (to_k, to_v)]
    except KeyError:
        return ""
    if any(a > b for a, b in zip(after, before, strict=True)):
        return "Precision that is lost stays lost; r reads the conversation again instead."
    return "It can be undone."


def type_rows(
    rows: RowList,
    current: str,
    head_dim: int,
    losses: Mapping[str, Loss] | None = None,
    order: Sequence[str] | None = None,
) -> list[Row]:
    """A row for every cache type; those that the model cannot have come last and say why.

    Args:
        losses: what each costs, if that is known.
        order: names in the order that they stay in; else the least loss comes first.
    """
    losses = losses or {}
    usable: list[Row] = []
    refused: list[Row] = []
    for cache_type in CACHE_TYPES.values():
        try:
            bits = cache_type.bits(head_dim) if head_dim else cache_type.bits()
        except CacheTypeError:
            refused.append(Row(cache_type.name, _refused(cache_type), selectable=False))
            continue
        loss = losses.get(cache_type.name, UNKNOWN)
        usable.append(Row(cache_type.name, _usable(rows, cache_type, bits, loss, cache_type.name == current)))
    if order is not None:
        usable.sort(key=lambda row: order.index(row.key) if row.key in order else len(order))
    else:
        usable = least_loss_first(usable, lambda row: losses.get(row.key, UNKNOWN))
    return usable + refused


def _usable(rows: RowList, cache_type: CacheType, bits: float, loss: Loss, current: bool) -> Draw:
    def draw(width: int) -> Sequence[Line]:
        g = rows.glyphs
        head: list[Piece] = [
            Piece(f" {g.mark if current else ' '} ", "current"),
            Piece(fit(cache_type.name, 8), "current" if current else "value"),
        ]
        if not loss.known or width >= _WITH_BITS:
            head.append(Piece(fit(f"{bits:g}", 6, ">"), "muted"))
            head.append(Piece(" bits  " if not loss.known or width >= _WITH_UNIT else " ", "faint"))
        if loss.known:
            word = ("" if loss.measured else "~") + loss.verdict.word
            head.append(Piece(fit(word, WORD_WIDTH), VERDICT_STYLES.get(loss.verdict, "muted")))
        room = width - 1 - bars.line_width(tuple(head))
        if room < (8 if loss.known else 4):
            return [bars.clip_line(tuple(head), width)]
        return [(*head, *bars.thin_bar(bits / _MOST_BITS, room, "cache" if current else "weights", g))]

    return draw


def _refused(cache_type: CacheType) -> Draw:
    def draw(width: int) -> Sequence[Line]:
        return [
            (
                Piece("   " + fit(cache_type.name, 8), "faint"),
                Piece(fit("not with these heads", width - 11), "faint"),
            )
        ]

    return draw


class ListHead(Lines):
    """The name of a list."""

    def __init__(self, letter: str, word: str) -> None:
        super().__init__()
        self._letter, self._word = letter, word

    def build(self, width: int) -> Sequence[Line]:
        return [(Piece(f"   {self._letter}", "title"), Piece(f"  {self._word}", "muted"))]


class TypeNote(Lines):
    """One sentence on each of the two types."""

    def __init__(self) -> None:
        super().__init__(id="note")
        self._types: tuple[CacheType | None, CacheType | None] = (None, None)

    def show(self, type_k: CacheType | None, type_v: CacheType | None) -> None:
        """Say what is known of these types."""
        self._types = (type_k, type_v)
        self.redraw()

    def build(self, width: int) -> Sequence[Line]:
        lines: list[Line] = []
        for letter, cache_type in zip("KV", self._types, strict=True):
            text = f"{cache_type.name}: {cache_type.summary}" if cache_type else ""
            lines.append(
                sides((Piece(f"{letter} ", "faint"), Piece(fit(text, width - 2), "muted")), (), width)
            )
        return lines
