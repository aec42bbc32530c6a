"""The index of the words of every message that is not being written: SQLite's FTS5.

It holds nothing that is not in the messages, so it can be thrown away and made again at any time:
when it is damaged, or when another SQLite without FTS5 has written to the file meanwhile.
"""

from __future__ import annotations

import contextlib
import sqlite3

from app.store.schema import statements

_MAKE = """
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
_EMPTY = bytes(7)
"""FTS5's record of an index without segments: cookie, levels, segments, writes."""


def available(c: sqlite3.Connection) -> bool:
    """Whether this SQLite has FTS5."""
    return c.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone() is not None


def usable(c: sqlite3.Connection) -> bool:
    """Whether the index is there, with all triggers that keep it up to date, and opens."""
    if len(_triggers(c)) != _MAKE.count("CREATE TRIGGER"):
        return False
    try:
        c.execute("SELECT rowid FROM message_words LIMIT 0")
    except sqlite3.DatabaseError:
        return False
    return True


def _triggers(c: sqlite3.Connection) -> list[str]:
    rows = c.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'message'")
    return [row[0] for row in rows]


def remove(c: sqlite3.Connection) -> None:
    """Remove what there is of the index. Without FTS5 only the triggers go, which is enough to write."""
    for name in _triggers(c):
        c.execute(f'DROP TRIGGER "{name}"')
    if (
        not available(c)
        or not c.execute("SELECT 1 FROM sqlite_schema WHERE name = 'message_words'").fetchone()
    ):
        return
    with contextlib.suppress(sqlite3.DatabaseError):
        c.execute("DROP TABLE message_words")
        return
    # A damaged one cannot even be opened to be dropped: make it an empty one first.
    c.execute("DELETE FROM message_words_data")
    c.execute("INSERT INTO message_words_data(id, block) VALUES (1, x''), (10, ?)", (_EMPTY,))
    c.execute("DROP TABLE message_words")


def make(c: sqlite3.Connection) -> None:
    """Make the index and fill it with what is there."""
    for statement in statements(_MAKE):
        c.execute(statement)


def tidy(c: sqlite3.Connection) -> None:
    """Merge the index into one piece, which drops the words of what was deleted."""
    c.execute("INSERT INTO message_words(message_words) VALUES ('optimize')")


def check(c: sqlite3.Connection) -> None:
    """Compare the index with the messages.

    Raises:
        sqlite3.DatabaseError: if they differ.
    """
    c.execute("INSERT INTO message_words(message_words, rank) VALUES ('integrity-check', 0)")
