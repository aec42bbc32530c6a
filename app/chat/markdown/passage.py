"""One stretch of text on the page: a widget that lays out blocks and remembers their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from rich.segment import Segment
from textual.content import Content
from textual.geometry import Region, Size
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual
from textual.widget import Widget

from app.chat.markdown.blocks import Block, Code
from app.chat.markdown.layout import Row, lay_out_block, needs_space
from app.chat.messages import CopyWanted


class _Piece:
    """A block with its rows for the last width that was asked for."""

    __slots__ = ("block", "codes", "rows", "width")

    def __init__(self, block: Block) -> None:
        self.block = block
        self.width = -1
        self.rows: list[Row] = []
        self.codes: list[Code] = []

    def at(self, width: int, n_codes: int) -> list[Row]:
        if width != self.width:
            self.codes = [_NO_CODE] * n_codes
            self.rows = lay_out_block(self.block, width, 0, self.codes)
            del self.codes[:n_codes]
            self.width = width
        return self.rows


_NO_CODE = Code("", "")
CARET = Content.styled("▍", "$primary")
_BLANK = Row(Content(""))


class RowsVisual(Visual):
    """Rows that are broken already, ready for Textual to draw and to select from."""

    def __init__(self, rows: Sequence[Row], theme: str) -> None:
        self.rows = rows
        self._theme = theme

    def get_optimal_width(self, rules: object, container_width: int) -> int:
        return container_width

    def get_height(self, rules: object, width: int) -> int:
        return len(self.rows)

    def render_strips(
        self, width: int, height: int | None, style: Style, options: RenderOptions
    ) -> list[Strip]:
        get_style = lru_cache(maxsize=None)(options.get_style)
        strips: list[Strip] = []
        for y, row in enumerate(self.rows if height is None else self.rows[:height]):
            content = row.content
            span = options.selection.get_span(y) if options.selection is not None else None
            if span is not None and options.selection_style is not None:
                end = len(content) if span[1] == -1 else span[1]
                content = content.stylize(options.selection_style, max(span[0], row.hang), end)
                strips.append(_draw(content, y, style, get_style))
                continue
            key = (self._theme, style, y)
            if row.drawn is None or row.drawn[0] != key:
                row.drawn = (key, _draw(content, y, style, get_style))
            strips.append(row.drawn[1])
        return strips


def _draw(content: Content, y: int, style: Style, get_style: Callable[[str | Style], Style]) -> Strip:
    segments: list[Segment] = []
    x = 0
    for text, text_style in content.render(style, end="", parse_style=get_style):
        segments.append(Segment(text, (style + text_style).rich_style_with_offset(x, y)))
        x += len(text)
    return Strip(segments, content.cell_length)


def selected_text(rows: Sequence[Row], selection: Selection) -> str:
    """What a selection covers: wrapped rows are joined again, indentation of their rest left out."""
    out = ""
    for y, row in enumerate(rows):
        span = selection.get_span(y)
        if span is None:
            continue
        start, end = span
        text = row.content.plain[max(start, row.hang) : None if end == -1 else end]
        if out:
            out += " " if row.joined else "\n"
        out += text.rstrip()
    return out


class Passage(Widget):
    """Several blocks of a message as one widget."""

    DEFAULT_CSS = """
    Passage { width: 1fr; height: auto; }
    Passage { link-style: none; link-color: $text-muted; link-style-hover: underline; }
    """

    def __init__(self, blocks: Sequence[Block] = (), *, classes: str = "") -> None:
        super().__init__(classes=classes)
        self._pieces = [_Piece(block) for block in blocks]
        self._laid_out: tuple[int, list[Row]] = (-1, [])
        self._caret = False

    @property
    def caret(self) -> bool:
        """Whether a mark stands where the next word will be."""
        return self._caret

    @caret.setter
    def caret(self, caret: bool) -> None:
        if caret != self._caret:
            self._caret = caret
            self._laid_out = (-1, [])
            self.refresh()

    def show(self, blocks: Sequence[Block], keep: int = 0) -> None:
        """Show other blocks; the first ``keep`` are the same as before."""
        width, before = self._laid_out
        self._pieces[keep:] = [_Piece(block) for block in blocks[keep:]]
        self._laid_out = (-1, [])
        after = self.rows(width) if width > 0 and self.is_attached else []
        if not after or len(after) != len(before):
            self.refresh(layout=True)
            return
        # A reply that is written changes its last row most of the time: only that is drawn again.
        changed = [y for y, (old, new) in enumerate(zip(before, after, strict=True)) if old is not new]
        if changed:
            gutter = self.gutter
            height = changed[-1] - changed[0] + 1
            self.refresh(Region(gutter.left, gutter.top + changed[0], width, height))

    @property
    def n_blocks(self) -> int:
        """How many blocks are shown."""
        return len(self._pieces)

    @property
    def codes(self) -> list[Code]:
        """The blocks of code that were laid out, in their order."""
        return [code for piece in self._pieces for code in piece.codes]

    def rows(self, width: int) -> list[Row]:
        """The rows at a width."""
        if self._laid_out[0] != width:
            rows: list[Row] = []
            n_codes = 0
            for n, piece in enumerate(self._pieces):
                if n and needs_space(self._pieces[n - 1].block, piece.block, False):
                    rows.append(_BLANK)
                rows += piece.at(width, n_codes)
                n_codes += len(piece.codes)
            if self._caret and rows and rows[-1].content.cell_length < width:
                rows[-1] = Row(rows[-1].content + CARET, rows[-1].joined, rows[-1].hang)
            self._laid_out = (width, rows)
        return self._laid_out[1]

    def render(self) -> RowsVisual:
        return RowsVisual(self.rows(self.content_size.width or max(self._laid_out[0], 1)), self.app.theme)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self.rows(width))

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        return selected_text(self._laid_out[1], selection), "\n"

    def action_copy_code(self, index: int) -> None:
        """Copy one block of code: the ``index``-th of this passage."""
        codes = self.codes
        if index < len(codes):
            self.post_message(CopyWanted(codes[index].source, "code"))
