"""From Markdown to a small tree of blocks whose texts carry styles, no colours yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from textual.content import Content, Span

from app.plain_text import plain

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

CODE_STYLE = "$text-primary on $panel"
LINK_STYLE = "underline"
URL_STYLE = "$text-muted"
DEEPEST = 40
"""Levels of blocks within blocks. The parser drops what is deeper, so such a text is shown as it is."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; its line breaks are kept."""

    text: Content


@dataclass(frozen=True, slots=True)
class Heading:
    """A title of level 1 to 6."""

    level: int
    text: Content


@dataclass(frozen=True, slots=True)
class Code:
    """A block of code."""

    language: str
    source: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list. ``first`` is the number of the first item, or None for bullets."""

    first: int | None
    tight: bool
    items: tuple[tuple[Block, ...], ...]


@dataclass(frozen=True, slots=True)
class Quote:
    """A quotation."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; ``aligns`` has ``left``, ``center`` or ``right`` per column."""

    header: tuple[Content, ...]
    rows: tuple[tuple[Content, ...], ...]
    aligns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A line across."""


Block = Paragraph | Heading | Code | Items | Quote | Table | Rule


@cache
def _parser() -> MarkdownIt:
    """Made when the first text is shown, not when the program starts."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "breaks": True, "maxNesting": DEEPEST})
    return parser.enable(["table", "strikethrough"])


_SPACE = re.compile(r"[ \t]+")
_MARKS = {"em": "italic", "strong": "bold", "s": "strike"}


def inline(token: Token) -> Content:
    """The text of an inline token with its styles."""
    parts: list[str] = []
    spans: list[Span] = []
    open_marks: list[tuple[str, int, str]] = []
    length = 0

    def add(text: str, style: str = "") -> None:
        nonlocal length
        if style:
            spans.append(Span(length, length + len(text), style))
        parts.append(text)
        length += len(text)

    for child in token.children or ():
        kind = child.type
        if kind == "text":
            add(_SPACE.sub(" ", child.content))
        elif kind in ("softbreak", "hardbreak"):
            add("\n")
        elif kind == "code_inline":
            add(child.content, CODE_STYLE)
        elif kind == "image":
            add(f"[{child.content or 'image'}]", LINK_STYLE)
            add(f" ({child.attrs.get('src', '')})", URL_STYLE)
        elif kind == "link_open":
            open_marks.append(("link", length, str(child.attrs.get("href", ""))))
        elif kind.endswith("_open"):
            open_marks.append((kind.removesuffix("_open"), length, ""))
        elif kind.endswith("_close") and open_marks:
            name, start, target = open_marks.pop()
            if name == "link":
                shown = "".join(parts)[start:]
                spans.append(Span(start, length, LINK_STYLE))
                if target not in ("", shown, f"mailto:{shown}"):
                    add(f" ({target})", URL_STYLE)
            elif name in _MARKS:
                spans.append(Span(start, length, _MARKS[name]))
        else:
            add(child.content)
    return Content("".join(parts), spans)


class _Reader:
    """Walks the flat list of tokens once."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def blocks(self, closing: str = "") -> Iterator[tuple[Block, int]]:
        """Blocks up to ``closing``, each with the line where it starts."""
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            if token.type == closing:
                return
            block = self._block(token)
            if block is not None:
                yield block, token.map[0] if token.map else 0

    def _inside(self, closing: str) -> tuple[Block, ...]:
        return tuple(block for block, _ in self.blocks(closing))

    def _inline_until(self, closing: str) -> tuple[Content, bool]:
        text, hidden = Content(""), False
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            if token.type == closing:
                hidden = token.hidden
                break
            if token.type == "inline":
                text = inline(token)
        return text, hidden

    def _block(self, token: Token) -> Block | None:
        match token.type:
            case "paragraph_open":
                text, _ = self._inline_until("paragraph_close")
                return Paragraph(text)
            case "heading_open":
                text, _ = self._inline_until("heading_close")
                return Heading(int(token.tag[1]), text)
            case "fence" | "code_block":
                language = token.info.split()[0] if token.info.split() else ""
                return Code(language, token.content.rstrip("\n"))
            case "bullet_list_open" | "ordered_list_open":
                return self._items(token)
            case "blockquote_open":
                return Quote(self._inside("blockquote_close"))
            case "table_open":
                return self._table()
            case "hr":
                return Rule()
            case "inline":
                return Paragraph(inline(token))
        return None

    def _items(self, opening: Token) -> Items:
        closing = opening.type.replace("_open", "_close")
        tight = self._is_tight(opening.level)
        items: list[tuple[Block, ...]] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            if token.type == closing:
                break
            if token.type == "list_item_open":
                items.append(self._inside("list_item_close"))
        first = None
        if opening.type == "ordered_list_open":
            first = int(opening.attrs.get("start", 1))
        return Items(first, tight, tuple(items))

    def _is_tight(self, level: int) -> bool:
        """The parser hides the paragraphs of a tight list."""
        for token in self._tokens[self._at :]:
            if token.level == level:
                break
            if token.type == "paragraph_open" and token.level == level + 2 and not token.hidden:
                return False
        return True

    def _table(self) -> Table:
        rows: list[list[Content]] = []
        aligns: list[str] = []
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            if token.type == "table_close":
                break
            if token.type == "tr_open":
                rows.append([])
            elif token.type in ("th_open", "td_open"):
                if len(rows) == 1:
                    style = str(token.attrs.get("style", ""))
                    aligns.append(style.removeprefix("text-align:") or "left")
                text, _ = self._inline_until(token.type.replace("_open", "_close"))
                rows[-1].append(text)
        header, *body = rows or [[]]
        return Table(tuple(header), tuple(tuple(row) for row in body), tuple(aligns))


def parse(markdown: str) -> list[Block]:
    """The blocks of a text. Control characters are made visible first."""
    return [block for block, _ in parse_with_lines(markdown)]


def codes_in(blocks: Iterable[Block]) -> list[Code]:
    """The blocks of code among ``blocks`` and within their lists and quotations, in the order of the text."""
    codes: list[Code] = []
    for block in blocks:
        match block:
            case Code():
                codes.append(block)
            case Quote():
                codes += codes_in(block.blocks)
            case Items():
                for item in block.items:
                    codes += codes_in(item)
    return codes


def parse_with_lines(markdown: str) -> list[tuple[Block, int]]:
    """The blocks of a text, each with the number of its first line."""
    text = plain(markdown)
    tokens = _parser().parse(text)
    if any(token.level >= DEEPEST - 1 for token in tokens):
        return [(Paragraph(Content(text)), 0)]
    return list(_Reader(tokens).blocks())
