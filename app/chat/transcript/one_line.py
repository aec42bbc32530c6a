"""One row of text: something at the left, something at the right, never more than one row."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from app.chat.markdown.layout import MUTED


class OneLine(Widget):
    """The left part gives way when both do not fit."""

    DEFAULT_CSS = """
    OneLine { width: 1fr; height: 1; link-style: none; link-color: $text-muted; link-style-hover: underline; }
    """

    def __init__(self, left: Content | str = "", right: Content | str = "", *, classes: str = "") -> None:
        super().__init__(classes=classes)
        self._left = _content(left)
        self._right = _content(right)

    def show(self, left: Content | str = "", right: Content | str = "") -> None:
        """Show other texts."""
        new_left, new_right = _content(left), _content(right)
        if new_left.is_same(self._left) and new_right.is_same(self._right):
            return
        self._left, self._right = new_left, new_right
        self.refresh()

    @property
    def text(self) -> str:
        """What is shown, without the space between."""
        return f"{self._left.plain} {self._right.plain}".strip()

    def render(self) -> Content:
        width = self.content_size.width
        right = self._right.truncate(width, ellipsis=True)
        room = width - right.cell_length - (1 if right else 0)
        left = self._left.truncate(max(0, room), ellipsis=True)
        if not right:
            return left
        return Content.assemble(left, " " * max(1, width - left.cell_length - right.cell_length), right)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return 1


def _content(text: Content | str) -> Content:
    return Content.styled(text, MUTED) if isinstance(text, str) else text
