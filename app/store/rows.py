"""Rows of the database as records, and back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict

from app.plain_text import one_line
from app.store.records import Attachment, Conversation, Figures, Message

CONVERSATION = """
    SELECT c.*, (SELECT count(*) FROM message m WHERE m.conversation = c.id) AS n_messages,
           (SELECT substr(content, 1, 400) FROM message m WHERE m.id = c.leaf) AS preview
    FROM conversation c
"""
_SIBLINGS = "SELECT count(*) FROM message s WHERE s.conversation = m.conversation AND s.parent IS m.parent"
PLACE = f"({_SIBLINGS}) AS n_siblings, ({_SIBLINGS} AND s.id < m.id) AS sibling_index"


def storable(text: str) -> str:
    """``text`` as UTF-8 can hold it: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def attachments_json(attachments: Iterable[Attachment]) -> str:
    """Attachments as one column holds them."""
    listed = [asdict(a) for a in attachments]
    return json.dumps(listed, separators=(",", ":")) if listed else ""


def attachments_of(text: str) -> tuple[Attachment, ...]:
    """The attachments that ``attachments_json`` wrote."""
    if not text:
        return ()
    try:
        return tuple(Attachment(str(a["name"]), str(a["text"])) for a in json.loads(text))
    except (ValueError, TypeError, KeyError):
        return ()  # saved from a damaged file


def message_of(row: sqlite3.Row) -> Message:
    """The message of a row that was selected with ``PLACE``."""
    return Message(
        id=row["id"],
        conversation=row["conversation"],
        parent=row["parent"],
        role=row["role"],
        content=row["content"],
        state=row["state"],
        created=row["created"],
        figures=Figures.from_json(row["figures"]),
        attachments=attachments_of(row["attachments"]),
        n_siblings=row["n_siblings"],
        sibling_index=row["sibling_index"],
    )


def conversation_of(row: sqlite3.Row) -> Conversation:
    """The conversation of a row that was selected with ``CONVERSATION``."""
    return Conversation(
        id=row["id"],
        title=row["title"],
        created=row["created"],
        updated=row["updated"],
        model=row["model"],
        settings=row["settings"],
        pinned=bool(row["pinned"]),
        leaf=row["leaf"],
        n_messages=row["n_messages"],
        preview=one_line(row["preview"] or "", 120),
        seen_from=row["seen_from"],
    )
