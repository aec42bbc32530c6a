"""The list that opens above the input while something can be completed."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget

from app.chat.completion import Candidate, Completion
from app.chat.format import clip
from app.chat.markdown.layout import MUTED

TALLEST = 8
"""Rows of candidates that are visible at once."""


class CompletionList(Widget):
    """Never has the focus: the input moves its mark."""

    DEFAULT_CSS = """
    CompletionList {
        display: none; width: 1fr; height: auto; padding: 0 1; background: $surface;
        border-top: solid $border-blurred;
    }
    """

    class Accepted(Message):
        """A candidate was clicked."""

    def __init__(self) -> None:
        super().__init__(id="completion")
        self.completion: Completion | None = None
        self.moved = False
        """Whether the user has moved the mark: then Enter means the marked candidate."""
        self._cursor = 0
        self._top = 0

    @property
    def is_open(self) -> bool:
        """Whether there is something to choose from."""
        return self.completion is not None

    @property
    def chosen(self) -> Candidate | None:
        """The marked candidate."""
        return self.completion.candidates[self._cursor] if self.completion else None

    def show(self, completion: Completion | None) -> None:
        """Offer other candidates, or none."""
        if completion == self.completion:
            return
        self.completion = completion
        self._cursor = self._top = 0
        self.moved = False
        self.display = completion is not None
        self.refresh(layout=True)

    def move(self, step: int) -> None:
        """Move the mark; at the ends it goes round."""
        if self.completion is None:
            return
        self.moved = True
        self._cursor = (self._cursor + step) % len(self.completion.candidates)
        self._top = min(max(self._top, self._cursor - TALLEST + 1), self._cursor)
        self.refresh()

    @property
    def _visible(self) -> tuple[Candidate, ...]:
        return self.completion.candidates[self._top : self._top + TALLEST] if self.completion else ()

    def render(self) -> Content:
        width = self.content_size.width
        visible = self._visible
        if not visible or not width:
            return Content("")
        widest = min(max(len(c.label) for c in visible), max(16, width // 2)) + 2
        rows = []
        for n, candidate in enumerate(visible, self._top):
            current = n == self._cursor
            label = clip(candidate.label, widest - 2).ljust(widest)
            detail = clip(candidate.detail, max(0, width - widest - 2))
            row = Content.assemble(
                ("▸ " if current else "  ", "$text-primary"),
                (label, "bold $text-primary" if current else ""),
                (detail, MUTED),
            )
            rows.append(row)
        return Content("\n").join(rows)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._visible)

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and self.completion and offset.y < len(self._visible):
            event.stop()
            self._cursor = self._top + offset.y
            self.post_message(self.Accepted())
