"""Colours for code, few and calm: the accent for keywords, grey for comments."""

from __future__ import annotations

from functools import lru_cache

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Token, _TokenType
from pygments.util import ClassNotFound
from textual.content import Content, Span

STYLES: dict[_TokenType, str] = {
    Token.Comment: "italic $text-muted",
    Token.Keyword: "$text-primary",
    Token.Operator.Word: "$text-primary",
    Token.Literal.String: "$text-secondary",
    Token.Literal.String.Doc: "italic $text-muted",
    Token.Literal.Number: "$text-secondary",
    Token.Name.Function: "bold",
    Token.Name.Class: "bold",
    Token.Name.Decorator: "$text-primary",
    Token.Name.Tag: "$text-primary",
    Token.Generic.Heading: "bold",
    Token.Generic.Strong: "bold",
    Token.Generic.Emph: "italic",
    Token.Generic.Deleted: "$text-error",
    Token.Generic.Inserted: "$text-success",
}
"""What is marked where the eye needs it; everything else stays as it is."""

_LONGEST = 60_000
"""Characters; a longer block is shown without colours so that the page stays quick."""


@lru_cache(maxsize=128)
def _lexer(language: str) -> Lexer | None:
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=256)
def _style(token: _TokenType) -> str:
    while token is not None:
        if style := STYLES.get(token):
            return style
        token = token.parent
    return ""


@lru_cache(maxsize=64)
def highlight(source: str, language: str) -> Content:
    """``source`` with colours for ``language`` (any name that Pygments knows)."""
    lexer = _lexer(language.lower()) if language else None
    if lexer is None or len(source) > _LONGEST:
        return Content(source)
    spans: list[Span] = []
    start = 0
    for token, text in lexer.get_tokens(source):
        end = start + len(text)
        if style := _style(token):
            spans.append(Span(start, end, style))
        start = end
    return Content(source, spans)
