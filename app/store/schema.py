"""The tables of the database, and the steps from each version to the next.

``PRAGMA user_version`` holds the number of steps that a file has been through. A step is never
changed once a release has it; a new version appends one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

STEPS: tuple[str, ...] = (
    # 1. ``message.chosen`` is the child that was shown last, so that going back to a branch arrives
    # where the person left it. ``message.parent`` has no cascade on purpose: SQLite would recurse along
    # a branch and stop at a depth of 1,000. Whoever deletes a subtree names all of it, and the check
    # waits for the commit.
    """
    CREATE TABLE conversation (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        title    TEXT    NOT NULL DEFAULT '',
        created  REAL    NOT NULL,
        updated  REAL    NOT NULL,
        model    TEXT    NOT NULL DEFAULT '',
        settings TEXT    NOT NULL DEFAULT '',
        pinned   INTEGER NOT NULL DEFAULT 0,
        leaf     INTEGER REFERENCES message(id) ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
        deleted  REAL
    );
    CREATE TABLE message (
        id           INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation INTEGER NOT NULL REFERENCES conversation(id) ON DELETE CASCADE,
        parent       INTEGER REFERENCES message(id) DEFERRABLE INITIALLY DEFERRED,
        chosen       INTEGER,
        role         TEXT    NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
        state        TEXT    NOT NULL CHECK (state IN ('partial', 'complete', 'stopped')),
        created      REAL    NOT NULL,
        content      TEXT    NOT NULL,
        figures      TEXT    NOT NULL DEFAULT '',
        attachments  TEXT    NOT NULL DEFAULT ''
    );
    CREATE INDEX message_place ON message(conversation, parent);
    CREATE INDEX message_parent ON message(parent);
    CREATE INDEX conversation_order ON conversation(pinned DESC, updated DESC);
    """,
    # 2. The first message that the model is told of, where the person dropped older ones to make room.
    """
    ALTER TABLE conversation ADD COLUMN seen_from INTEGER NOT NULL DEFAULT 0;
    """,
)


def statements(script: str) -> Iterator[str]:
    """The single statements of an SQL script (triggers hold semicolons of their own)."""
    collected = ""
    for line in script.splitlines(keepends=True):
        collected += line
        if sqlite3.complete_statement(collected):
            yield collected
            collected = ""
