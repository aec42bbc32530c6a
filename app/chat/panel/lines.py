"""A widget of a few lines of styled text that repaints only the cells that changed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar

from rich.cells import cell_len
from textual.geometry import Region, Size
from textual.strip import Strip

from app.chat.panel.bars import Line, Piece, line_width
from app.chat.panel.styled import STYLES, Styled, css


def changed_span(old: Line, new: Line) -> tuple[int, int] | None:
    """First cell and end of what differs between two lines, None if nothing does.

    Whole pieces are compared, so the span can be a little too wide and is never too narrow.
    """
    if old == new:
        return None
    start = 0
    head = 0
    for a, b in zip(old, new, strict=False):
        if a != b:
            break
        start += cell_len(a.text)
        head += 1
    tail = 0
    for a, b in zip(reversed(old[head:]), reversed(new[head:]), strict=False):
        if a != b:
            break
        tail += 1
    end = max(start + line_width(line[head : len(line) - tail]) for line in (old, new))
    if line_width(old) != line_width(new):
        end = max(line_width(old), line_width(new))
    return start, end


class Density(IntEnum):
    """How much room a widget may take."""

    TIGHT = 0
    """Every line counts: a terminal of 24 lines."""
    COMPACT = 1
    AIRY = 2
    """As compact, with air between the sections and a bar below every row of the table."""
    ROOMY = 3


class Lines(Styled):
    """Lines of pieces, as high as there are lines."""

    density = Density.ROOMY

    COMPONENT_CLASSES: ClassVar[set[str]] = set(STYLES)

    DEFAULT_CSS = """
    Lines {
        height: auto;
        width: 1fr;
    }
    """ + css("Lines")

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes, markup=False)
        self._lines: list[Line] = []

    # ---------------------------------------------------------------- what subclasses use

    def build(self, width: int) -> Sequence[Line]:
        """The lines for this width, from what the widget knows now. Subclasses say which."""
        return ()

    def redraw(self) -> None:
        """Build the lines again and repaint the cells that differ."""
        if not self.is_mounted or self.size.width <= 0:
            return
        new = list(self.build(self.size.width))
        old, self._lines = self._lines, new
        if len(old) != len(new):
            self.refresh(layout=True)
            return
        dirty = []
        for y, (before, after) in enumerate(zip(old, new, strict=True)):
            span = changed_span(before, after)
            if span is not None:
                dirty.append(Region(span[0], y, span[1] - span[0], 1))
        if dirty:
            self.refresh(*dirty)

    @property
    def plain_text(self) -> str:
        """All lines as text: for tests and for the clipboard."""
        return "\n".join("".join(p.text for p in line).rstrip() for line in self._lines)

    # ---------------------------------------------------------------- what Textual calls

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _theme: self.call_after_refresh(self._rebuild))

    def on_resize(self) -> None:
        self._rebuild()

    def _rebuild(self) -> None:
        if self.is_mounted and self.size.width > 0:
            before = len(self._lines)
            self._lines = list(self.build(self.size.width))
            self.refresh(layout=before != len(self._lines))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self.build(width)) if width > 0 else len(self._lines)

    def render_line(self, y: int) -> Strip:
        return self.strip_of(self._lines[y] if y < len(self._lines) else (), self.size.width)


def sides(left: Sequence[Piece], right: Sequence[Piece], width: int) -> Line:
    """A line with one part at its left and one at its right edge."""
    used = line_width((*left, *right))
    return (*left, Piece(" " * max(1, width - used)), *right)
