"""Now and then: what a change of the cache would need and gain, as a small table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from app.chat.format import DASH, MINUS, count, fit, setting, size, size_change
from app.chat.panel import bars
from app.chat.panel.bars import Line, Piece
from app.chat.panel.lines import Lines
from app.engine.protocol import CachePreview, Status
from app.plain_text import one_line

_LABEL = 8
_COLUMN = 12
_SENTENCES = 2


class SwitchPreview(Lines):
    """Six lines that never move: a heading, cache, reach, what it takes, and two for sentences."""

    def __init__(self) -> None:
        super().__init__(id="preview")
        self._status: Status | None = None
        self._preview: CachePreview | None = None
        self._problem = ""
        self._remark = ""
        self._same = False

    def show_now(self, status: Status | None) -> None:
        """The figures of the cache as it is."""
        self._status = status
        self.redraw()

    def show(
        self, preview: CachePreview | None, *, problem: str = "", remark: str = "", same: bool = False
    ) -> None:
        """What the engine answered, or why it refuses.

        Args:
            remark: what a person should know beside the figures.
            same: nothing would change.
        """
        self._preview, self._problem, self._remark, self._same = preview, problem, remark, same
        self.redraw()

    # ---------------------------------------------------------------- drawing

    def build(self, width: int) -> Sequence[Line]:
        status, preview = self._status, self._preview
        row = next(
            (
                r
                for r in (status.rows if status else ())
                if status and (r.type_k, r.type_v, r.tail) == (status.type_k, status.type_v, status.tail)
            ),
            None,
        )
        now_bytes = preview.bytes_before if preview else (row.kv_bytes if row else 0)
        now_reach = row.max_ctx if row else 0
        now_name = setting(status.type_k, status.type_v, status.tail) if status else DASH
        then_name = setting(preview.type_k, preview.type_v, preview.tail) if preview else DASH
        moves = preview if not self._same else None
        then_bytes = preview.bytes_after if preview else 0
        then_reach = preview.reach if preview else 0
        lines = [
            self._line("", now_name, then_name, (), head=True),
            self._line(
                "context",
                count(status.n_ctx) if status else DASH,
                count(preview.n_ctx) if preview else DASH,
                self._change(preview.n_ctx - status.n_ctx) if preview and status else (),
            ),
            self._line(
                "cache",
                size(now_bytes) if now_bytes else DASH,
                size(then_bytes) if then_bytes else DASH,
                self._bytes_change(then_bytes - now_bytes) if preview else (),
            ),
            self._line(
                "reach",
                count(now_reach) if now_reach else DASH,
                count(then_reach) if then_reach else DASH,
                self._change(then_reach - now_reach) if then_reach and now_reach else (),
            ),
            self._line("peak", "", "+" + size(moves.peak_bytes) if moves else DASH, self._available(width)),
        ]
        lines = [bars.clip_line(line, width) for line in lines]
        text, style = self._sentence()
        wrapped = textwrap.wrap(text, max(20, width))[:_SENTENCES]
        wrapped += [""] * (_SENTENCES - len(wrapped))
        return [*lines, *((Piece(fit(t, width), style),) for t in wrapped)]

    def _line(self, label: str, now: str, then: str, note: Sequence[Piece], *, head: bool = False) -> Line:
        style = "faint" if self._same and not head else "value"
        return (
            Piece(fit(label, _LABEL), "muted"),
            Piece(fit(now, _COLUMN, ">"), "muted"),
            Piece(fit(then, _COLUMN + 3, ">"), "current" if head else style),
            Piece("   "),
            *note,
        )

    def _available(self, width: int) -> Sequence[Piece]:
        if self._status is None or self._preview is None or self._same:
            return ()
        memory = self._status.memory
        text = f"of {size(memory.available)}"
        if width >= 70:
            text = f"for a moment, {text} available"
        return (Piece(text, "muted" if self._preview.fits else "warning"),)

    @staticmethod
    def _bytes_change(n: int) -> Sequence[Piece]:
        return (Piece(size_change(n) if n else "the same", "current" if n < 0 else "muted"),)

    @staticmethod
    def _change(n: int) -> Sequence[Piece]:
        text = f"{'+' if n > 0 else MINUS}{count(abs(n))}" if n else "the same"
        return (Piece(text, "current" if n > 0 else "muted"),)

    def _sentence(self) -> tuple[str, str]:
        preview = self._preview
        if self._problem:
            return one_line(self._problem), "warning"
        if preview is None:
            return "", "muted"
        if self._same:
            return "This is the cache as it is now.", "muted"
        if not preview.fits:
            return one_line(preview.sentence), "warning"
        if preview.reprefill:
            how = "The conversation is read again: slow and exact."
        elif preview.through_file:
            how = "It goes through a temporary file, since both caches do not fit at once."
        else:
            how = "The conversation stays; nothing is read again."
        return f"{how} {self._remark}".strip(), "muted"
