"""How the stretch table is drawn: its columns, its rows, its scale. Nothing here is a widget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from app.chat.format import DASH, MINUS, SIZE_WIDTH, clip, count, fit, setting, size
from app.chat.losses import NOTHING, Losses, kld_text, row_loss
from app.chat.panel import bars
from app.chat.panel.bars import Line, Piece
from app.chat.panel.glyphs import Glyphs
from app.engine.protocol import CachePreview
from app.plain_text import one_line
from models.stretch_row import StretchRow
from quantize.cache_types import PRESETS
from quantize.lab.loss import Verdict

REACH_WIDTH = 10
"""``12,345,678``"""

TOKEN_WIDTH = 8
LIMIT_WIDTH = 9
LOSS_WIDTH, WORD_WIDTH = 15, 9
"""Of the loss as a word and a figure, and as a word alone (``~visible``: it is estimated)."""

VERDICT_STYLES = {Verdict.VISIBLE: "warning", Verdict.BREAKS: "error"}
"""Where the word has a colour of its own."""

_LEAST_BAR = 7
"""Cells below which the bar of a row takes those of a column of figures."""


def same_setting(row: StretchRow, type_k: str, type_v: str, tail: int) -> bool:
    """Whether a row stands for this setting."""
    return (row.type_k, row.type_v, row.tail) == (type_k, type_v, tail)


def gain_sentence(row: StretchRow, current: StretchRow | None) -> str:
    """What switching to ``row`` would do, from the table alone."""
    if current is None:
        return f"A cache of {size(row.kv_bytes)} that can reach {count(row.max_ctx)} tokens."
    change = current.kv_bytes - row.kv_bytes
    if change > 0:
        first = f"frees {size(change)}"
    elif change < 0:
        first = f"takes {size(-change)} more"
    else:
        first = "takes the same memory"
    step = row.max_ctx - current.max_ctx
    if step == 0:
        reach = f"the reach stays {count(row.max_ctx)}"
        reach += " (trained)" if row.limit == "trained" else ""
    else:
        reach = f"reaches {count(row.max_ctx)} ({'+' if step > 0 else MINUS}{count(abs(step))})"
    return f"{first}, {reach}."


def way_sentence(preview: CachePreview) -> str:
    """What the switch takes on its way, as the engine predicts it."""
    if preview.reprefill:
        return "The conversation is read again."
    how = ", through a file" if preview.through_file else ""
    return f"Needs {size(preview.peak_bytes)} for a moment{how}."


@dataclass(frozen=True, slots=True)
class Scale:
    """The logarithmic scale that all bars share."""

    low: int
    high: int

    @classmethod
    def over(
        cls, rows: Sequence[StretchRow], n_ctx: int, n_ctx_train: int, before: Scale | None = None
    ) -> Scale:
        """From below the present length to the longest one that any row could reach.

        Both ends are round, and a scale from ``before`` is kept while everything still lies well
        on it, so that it stands still while the memory that is available goes up and down.
        """
        usable = [r for r in rows if not r.refused]
        longest = max([n_ctx, n_ctx_train, *(r.max_ctx_memory for r in usable)], default=0)
        shortest = min([n for n in (n_ctx, n_ctx_train, *(r.max_ctx for r in usable)) if n > 0], default=1)
        if (
            before is not None
            and longest <= before.high <= 2 * longest
            and before.low < shortest <= 8 * before.low
        ):
            return before
        power = 1 << max(3, longest.bit_length() - 1)
        high = next(h for h in (power, power * 5 // 4, power * 3 // 2, power * 2) if h >= longest)
        low = min(1 << max(0, (shortest // 2).bit_length() - 1), high // 8)
        return cls(max(1, low), high)

    def __call__(self, n_tokens: float) -> float:
        """Where a length lies, 0 to 1."""
        return bars.log_fraction(n_tokens, self.low, self.high)

    def cell(self, n_tokens: int, width: int) -> int:
        """The cell of a bar of ``width`` cells in which a length lies."""
        return min(width - 1, int(self(n_tokens) * width))

    def axis(self, width: int) -> str:
        """Lengths written below their places: ``1k    4k    16k``."""
        text = ""
        length, step = self.low, 2 if self.high < self.low * 64 else 4
        while length <= self.high and width > 0:
            x = self.cell(length, width)
            name = axis_name(length)
            x = min(x, width - len(name))
            if not text or x >= len(text) + 3:
                text = text.ljust(x) + name
            length *= step
        return fit(text, width)


def axis_name(n_tokens: int) -> str:
    """``4096`` as ``4k``, ``1048576`` as ``1M``, the way lengths of contexts are spoken of."""
    if n_tokens >= 1 << 20:
        return f"{n_tokens >> 20}M"
    return f"{n_tokens >> 10}k" if n_tokens >= 1 << 10 else str(n_tokens)


class Columns:
    """Which columns fit beside the name and the reach, and how wide they are.

    In the narrow form every row ends with a bar; in the roomy one the bar has a line of its own
    and what limits the row stands in its place, or what it costs once anything is known of that.
    """

    def __init__(
        self,
        rows: Sequence[StretchRow],
        width: int,
        roomy: bool,
        losses: Losses = NOTHING,
        tight: bool = False,
    ) -> None:
        self.width = width
        self.losses = losses
        known = bool(losses.by_setting) or any(r.loss.known for r in rows)
        self.name = min(max([9, *(cell_len(setting(r.type_k, r.type_v, r.tail)) for r in rows)]), 18)
        self.name = max(4, min(self.name, width - 2 - REACH_WIDTH))
        self.token, self.cache, self.limit, self.bar = TOKEN_WIDTH, SIZE_WIDTH + 1, 0, 0
        self.loss = 0
        if known:
            self._give_loss(whole=roomy or tight)
            self.bar = max(0, self._rest() - 1) if not (roomy or tight) and self._rest() >= 4 else 0
            return
        wanted = 0 if roomy else _LEAST_BAR
        if self._rest() < wanted:
            self.cache = 0
        if self._rest() < wanted:
            self.token = 0
        if roomy:
            self.limit = LIMIT_WIDTH if self._rest() >= LIMIT_WIDTH else 0
        elif self._rest() >= 4:
            self.bar = self._rest() - 1

    def _give_loss(self, *, whole: bool) -> None:
        """Take room for the loss: with its figure before the other columns, else as a word."""
        wanted = LOSS_WIDTH if whole else WORD_WIDTH
        for column in ("cache", "token"):
            if self._rest() < wanted:
                setattr(self, column, 0)
        if self._rest() < wanted:
            wanted = WORD_WIDTH
        self.loss = wanted if self._rest() >= wanted else 0

    def _rest(self) -> int:
        return self.width - 2 - self.name - self.token - self.cache - REACH_WIDTH - self.loss

    def head(self, title: str = "") -> Line:
        """The names of the columns; with a title in the place of the first where lines are scarce."""
        text = "" if title else "  " + fit("K/V", self.name)
        if self.token:
            text += fit("KiB/tok", self.token, ">")
        if self.cache:
            text += fit("cache", self.cache, ">")
        text += fit("fits now", REACH_WIDTH, ">")
        if self.limit:
            text += "  limit"
        if self.loss:
            text += fit("  loss", self.loss)
        if not title:
            return (Piece(fit(text, self.width), "faint"),)
        first = 2 + self.name
        return (Piece(fit(title, first), "title"), Piece(fit(text, self.width - first), "faint"))

    def row(self, row: StretchRow, g: Glyphs, n_ctx: int, current: bool) -> Line:
        """The text of a row, without its bar."""
        name = fit(setting(row.type_k, row.type_v, row.tail), self.name)
        if row.refused:
            room = self.width - 3 - self.name
            reason = fit(clip(one_line(row.refused), room), room)
            return (Piece("  "), Piece(name, "faint"), Piece(" " + reason, "faint"))
        text = "current" if current else "value"
        side = "current" if current else "muted"
        mark = f"{g.mark} " if current else "  "
        pieces = [Piece(mark, "current"), Piece(name, text)]
        if self.token:
            pieces.append(Piece(fit(row.kib, self.token, ">"), side))
        if self.cache:
            pieces.append(Piece(fit(size(row.kv_bytes), self.cache, ">"), side))
        reach = fit(count(row.max_ctx), REACH_WIDTH, ">")
        pieces.append(Piece(reach, "warning" if row.max_ctx < n_ctx else text))
        if self.limit:
            pieces.append(Piece(fit("  " + row.limit, self.limit), side))
        if self.loss:
            pieces += self._loss_pieces(row, side)
        return tuple(pieces)

    def _loss_pieces(self, row: StretchRow, side: str) -> list[Piece]:
        loss = row_loss(row, self.losses)
        if not loss.known:
            return [Piece(" " * self.loss)]
        word = fit(("  " if loss.measured else " ~") + loss.verdict.word, WORD_WIDTH)
        pieces = [Piece(word, VERDICT_STYLES.get(loss.verdict, side))]
        if self.loss > WORD_WIDTH:
            pieces.append(Piece(fit(kld_text(loss.kld), self.loss - WORD_WIDTH, ">"), side))
        return pieces

    def small_bar(self, row: StretchRow, scale: Scale, g: Glyphs, current: bool, n_ctx_train: int) -> Line:
        """The bar at the end of a row."""
        if not self.bar or row.refused:
            return ()
        return (Piece(" "), *bar_of(row, scale, self.bar, g, current, n_ctx_train))


def bar_of(row: StretchRow, scale: Scale, width: int, g: Glyphs, current: bool, n_ctx_train: int) -> Line:
    """The reach of a row, what memory alone would allow, and the trained length as a tick."""
    beyond = scale(row.max_ctx_memory)
    line = bars.thin_bar(scale(row.max_ctx), width, "cache" if current else "weights", g, beyond)
    if n_ctx_train and n_ctx_train < scale.high:
        line = bars.overlay(line, scale.cell(n_ctx_train, width), Piece(g.tick, "tick"))
    return line


def long_bar(
    row: StretchRow, scale: Scale, width: int, g: Glyphs, current: bool, n_ctx: int, n_ctx_train: int
) -> Line:
    """The bar below a row, with the present length as a mark on the current one."""
    room = width - 2
    if row.refused:
        return (Piece(" " * width),)
    line = bar_of(row, scale, room, g, current, n_ctx_train)
    if current and n_ctx:
        line = bars.overlay(line, scale.cell(n_ctx, room), Piece(g.here, "value"))
    return (Piece("  "), *line)


def awaited(columns: Columns) -> list[Line]:
    """Rows of the presets before there are figures, so that nothing moves when they come."""
    lines: list[Line] = []
    for pair in PRESETS:
        cells = "".join(fit(DASH, w, ">") for w in (columns.token, columns.cache, REACH_WIDTH) if w)
        lines.append((Piece("  " + fit(pair.label, columns.name) + cells, "faint"),))
    return lines
