"""The tables of the database, and the steps from each version to the next.

``PRAGMA user_version`` holds the number of steps that a file has been through. A step is never
changed once a release has it; a new version appends one.
"""

from __future__ import annotations

STEPS: tuple[str, ...] = (
    # 1. ``message.parent`` has no cascade on purpose: SQLite would recurse along a branch and stop at a
    # depth of 1,000. Whoever deletes a subtree names all of it, and the check waits for the commit.
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
)

SEARCH_INDEX = """
    CREATE VIRTUAL TABLE message_words USING fts5(
        content, content='message', content_rowid='id',
        tokenize="unicode61 remove_diacritics 2", prefix='2 3');
    CREATE TRIGGER message_added AFTER INSERT ON message WHEN new.state <> 'partial' BEGIN
        INSERT INTO message_words(rowid, content) VALUES (new.id, new.content);
    END;
    CREATE TRIGGER message_removed AFTER DELETE ON message WHEN old.state <> 'partial' BEGIN
        INSERT INTO message_words(message_words, rowid, content) VALUES ('delete', old.id, old.content);
    END;
    CREATE TRIGGER message_left AFTER UPDATE OF content, state ON message WHEN old.state <> 'partial' BEGIN
        INSERT INTO message_words(message_words, rowid, content) VALUES ('delete', old.id, old.content);
    END;
    CREATE TRIGGER message_entered AFTER UPDATE OF content, state ON message WHEN new.state <> 'partial' BEGIN
        INSERT INTO message_words(rowid, content) VALUES (new.id, new.content);
    END;
    INSERT INTO message_words(rowid, content) SELECT id, content FROM message WHERE state <> 'partial';
"""
"""An index of the words of every message that is not being written. ``message.chosen`` is the child
that was shown last, so that going back to a branch arrives where the person left it."""
