"""From blocks to rows of a given width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.strip import Strip
from textual.style import Style

from app.chat.markdown.blocks import Block, Code, Heading, Items, Paragraph, Quote, Rule, Table

CODE_BACKGROUND = "on $surface"
MUTED = "$text-muted"
HEADING_STYLES = ("bold underline", "bold", "bold italic", "bold italic", "italic", "italic")
BULLETS = "•◦▪"
NARROWEST = 8
"""Columns that nested blocks keep, however deep they are."""


@dataclass(slots=True)
class Row:
    """One row on the screen."""

    content: Content
    joined: bool = False
    """The row goes on from the one above it: a copy of the text has no line break there."""
    hang: int = 0
    """Characters at the start that are indentation, not text."""
    drawn: tuple[object, Strip] | None = None
    """What was drawn for it last, and for which style."""


def wrap(text: Content, width: int) -> list[Row]:
    """Break ``text`` into rows of at most ``width`` columns."""
    rows: list[Row] = []
    for line in text.split("\n", allow_blank=True):
        for n, part in enumerate(line.wrap(max(width, 1))):
            rows.append(Row(part, joined=n > 0))
    return rows


def _prefixed(rows: Iterable[Row], first: Content, rest: Content) -> list[Row]:
    out = []
    for n, row in enumerate(rows):
        prefix = rest if n else first
        out.append(Row(prefix + row.content, row.joined, row.hang + (len(prefix) if row.joined else 0)))
    return out


def _code(block: Code, width: int, index: int) -> list[Row]:
    """A band of another background; its first row names the language and offers to copy."""
    from app.chat.markdown.highlight import highlight  # Pygments, which few conversations need at once

    copy = Content.styled("copy", Style.from_meta({"@click": f"copy_code({index})"})).stylize(MUTED)
    name = Content.styled(block.language[:20] or "code", MUTED)
    gap = max(1, width - 2 - name.cell_length - copy.cell_length)
    head = Content.assemble(" ", name, " " * gap, copy, " ")
    rows = [Row(head.truncate(width, pad=True))]
    for line in highlight(block.source, block.language).expand_tabs(4).split("\n", allow_blank=True):
        pieces = line.fold(max(2, width - 2)) if line.cell_length > width - 2 else [line]
        for n, piece in enumerate(pieces):
            rows.append(Row(Content.assemble(" ", piece).truncate(width, pad=True), n > 0, 1 if n else 0))
    return [Row(row.content.stylize_before(CODE_BACKGROUND), row.joined, row.hang) for row in rows]


def _items(block: Items, width: int, depth: int, codes: list[Code]) -> list[Row]:
    rows: list[Row] = []
    last = len(block.items) - 1 + (block.first or 0)
    for n, item in enumerate(block.items):
        if block.first is None:
            mark = BULLETS[min(depth, len(BULLETS) - 1)] + " "
        else:
            mark = f"{block.first + n}.".rjust(len(str(last)) + 1) + " "
        indent = Content(" " * len(mark))
        inside = lay_out(item, max(NARROWEST, width - len(mark)), depth + 1, codes, tight=block.tight)
        if n and not block.tight:
            rows.append(Row(Content("")))
        rows += _prefixed(inside or [Row(Content(""))], Content.styled(mark, MUTED), indent)
    return rows


def _column_widths(block: Table, width: int) -> list[int]:
    """Natural widths if they fit, else the widest columns give way."""
    table = [block.header, *block.rows]
    n = len(block.header)
    gaps = 2 * (n - 1)
    widths = [
        max(
            [max(len_of_line(c) for c in row[i].split("\n")) for row in table if i < len(row) and row[i]]
            or [1]
        )
        for i in range(n)
    ]
    while sum(widths) + gaps > width and max(widths) > 3:
        widest = widths.index(max(widths))
        others = sorted(widths)[-2] if n > 1 else 0
        excess = sum(widths) + gaps - width
        widths[widest] = max(3, widths[widest] - max(1, min(excess, widths[widest] - others)))
    return widths


def len_of_line(content: Content) -> int:
    """Columns that one line takes."""
    return content.cell_length


def _aligned(content: Content, width: int, align: str) -> Content:
    content = content.truncate(width)
    space = width - content.cell_length
    left = {"right": space, "center": space // 2}.get(align, 0)
    return content.pad(left, space - left)


def _table(block: Table, width: int) -> list[Row]:
    if not block.header:
        return []
    widths = _column_widths(block, width)
    rows: list[Row] = []
    for number, cells in enumerate([block.header, *block.rows]):
        columns = [
            wrap(cell.stylize_before("bold") if number == 0 else cell, w)
            for cell, w in zip(cells, widths, strict=False)
        ]
        for line in range(max((len(c) for c in columns), default=0)):
            parts: list[Content] = []
            for column, w, align in zip(columns, widths, block.aligns, strict=False):
                cell = column[line].content if line < len(column) else Content("")
                parts.append(_aligned(cell, w, align))
            rows.append(Row(Content("  ").join(parts).truncate(width)))
        if number == 0:
            ruler = "  ".join("─" * w for w in widths)
            rows.append(Row(Content.styled(ruler, MUTED).truncate(width)))
    return rows


def lay_out_block(block: Block, width: int, depth: int, codes: list[Code]) -> list[Row]:
    """The rows of one block. Every block of code that is met is appended to ``codes``."""
    match block:
        case Paragraph(text):
            return wrap(text, width)
        case Heading(level, text):
            return wrap(text.stylize_before(HEADING_STYLES[level - 1]), width)
        case Code():
            codes.append(block)
            return _code(block, width, len(codes) - 1)
        case Items():
            return _items(block, width, depth, codes)
        case Quote(blocks):
            bar = Content.styled("│ ", MUTED)
            inside = lay_out(blocks, max(NARROWEST, width - 2), depth, codes)
            return [Row(bar + row.content.stylize_before(MUTED), row.joined, row.hang + 2) for row in inside]
        case Table():
            return _table(block, width)
        case Rule():
            return [Row(Content.styled("─" * width, MUTED))]


def needs_space(above: Block, below: Block, tight: bool) -> bool:
    """Whether a blank row stands between two blocks."""
    return not (tight and isinstance(below, Items | Paragraph)) and not (
        isinstance(above, Heading) and above.level > 2
    )


def lay_out(
    blocks: Sequence[Block],
    width: int,
    depth: int = 0,
    codes: list[Code] | None = None,
    *,
    tight: bool = False,
) -> list[Row]:
    """The rows of several blocks with the space between them."""
    codes = [] if codes is None else codes
    rows: list[Row] = []
    for n, block in enumerate(blocks):
        if n and needs_space(blocks[n - 1], block, tight):
            rows.append(Row(Content("")))
        rows += lay_out_block(block, width, depth, codes)
    return rows
