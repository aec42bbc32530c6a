"""Finding conversations by words."""

from __future__ import annotations

import re
import sqlite3
import unicodedata

from app.plain_text import one_line

NEWEST = 1000
"""Matching messages that are looked at, newest first."""

_AROUND = 40  # characters shown before the first match
_SNIPPET = 160


def words_of(text: str) -> list[str]:
    """The words that are searched for."""
    return re.findall(r"\w+", text)


def matching_messages(c: sqlite3.Connection, text: str, *, indexed: bool) -> list[tuple[int, int]]:
    """Messages that hold all words of ``text``, as (conversation, message), newest first.

    The index knows words and their beginnings. Where it finds nothing (parts of words, scripts
    without spaces, signs) every message is looked at.
    """
    words = words_of(text)
    visible = "JOIN conversation c ON c.id = m.conversation AND c.deleted IS NULL"
    if indexed and words:
        query = " ".join(f'"{word}"*' for word in words)
        rows = c.execute(
            "SELECT m.conversation, m.id"
            f" FROM message_words JOIN message m ON m.id = message_words.rowid {visible}"
            " WHERE message_words MATCH ? ORDER BY message_words.rowid DESC LIMIT ?",
            (query, NEWEST),
        ).fetchall()
        if rows:
            return [(row[0], row[1]) for row in rows]
    patterns = _patterns(text)
    if not patterns:
        return []
    rows = c.execute(
        f"SELECT m.conversation, m.id FROM message m {visible} WHERE {_all_like('m.content', patterns)}"
        " ORDER BY m.id DESC LIMIT ?",
        (*patterns, NEWEST),
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


def matching_titles(c: sqlite3.Connection, text: str) -> list[int]:
    """Conversations whose title holds all parts of ``text``, the one used last first."""
    patterns = _patterns(text)
    if not patterns:
        return []
    return [
        row[0]
        for row in c.execute(
            f"SELECT id FROM conversation WHERE deleted IS NULL AND {_all_like('title', patterns)}"
            " ORDER BY updated DESC LIMIT ?",
            (*patterns, NEWEST),
        )
    ]


def _patterns(text: str) -> list[str]:
    return ["%" + re.sub(r"([\\%_])", r"\\\1", part) + "%" for part in text.split()]


def _all_like(column: str, patterns: list[str]) -> str:
    return " AND ".join([f"{column} LIKE ? ESCAPE '\\'"] * len(patterns))


def _folded(text: str) -> str:
    """``text`` in lower case and without accents, character for character."""
    return "".join((unicodedata.normalize("NFD", ch)[0].lower() or ch)[0] for ch in text)


def snippet(content: str, text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The stretch of ``content`` around the first match, on one line, and where the matches are in it."""
    parts = [p for p in {_folded(w) for w in (*words_of(text), *text.split())} if p]
    pattern = re.compile("|".join(re.escape(p) for p in sorted(parts, key=len, reverse=True)) or r"(?!)")
    window = content[:100_000]
    first = pattern.search(_folded(window))
    start = max(0, first.start() - _AROUND) if first else 0
    if start:
        space = window.find(" ", start, start + _AROUND)
        start = space + 1 if space > 0 else start
    line = one_line(window[start : start + _SNIPPET])
    if start:
        line = "…" + line
    if start + _SNIPPET < len(content):
        line += "…"
    return line, tuple(m.span() for m in pattern.finditer(_folded(line)))
