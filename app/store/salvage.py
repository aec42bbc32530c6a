"""A damaged database is moved aside, and what can still be read of it goes into a new one."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from app.store.database import DamagedError, Database
from app.store.locking import alone_in
from quantize.errors import StoreError

_LARGEST_GAP = 1 << 24
"""Ids to skip at most where a page cannot be read, before giving up on the rest."""


def open_or_salvage(path: Path) -> tuple[Database, tuple[str, ...]]:
    """Open the database at ``path``; if it is damaged, move it aside and open a new one.

    Returns:
        The database, and sentences for the user about what happened (usually none).
    """
    try:
        return Database(path), ()
    except DamagedError:
        with alone_in(path.parent):
            try:
                return Database(path), ()  # another process has done it meanwhile
            except DamagedError as damage:
                aside = _move_aside(path)
                database = Database(path)
                return database, (_take_over(aside, database, str(damage)),)


def _move_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    n = 1
    while aside.exists():
        n += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{n}")
    try:
        for suffix in ("-wal", "-shm", ""):  # the log belongs to the file and holds the newest messages
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise StoreError(
            f"The database {path} is damaged and cannot be moved aside: {error.strerror}.",
            "Move it yourself and start again.",
        ) from error
    return aside


def _rows(source: sqlite3.Connection, table: str) -> Iterator[sqlite3.Row]:
    """The rows that can be read, in the order of their ids."""
    last, gap = 0, 0
    while gap <= _LARGEST_GAP:
        try:
            for row in source.execute(f"SELECT * FROM {table} WHERE id > ? ORDER BY id", (last + gap,)):
                last, gap = row["id"], 0
                yield row
            return
        except sqlite3.DatabaseError:
            gap = max(1, gap * 2)


def _take_over(aside: Path, into: Database, damage: str) -> str:
    source = sqlite3.connect(aside)
    source.row_factory = sqlite3.Row
    source.text_factory = lambda data: data.decode("utf-8", "replace")
    try:
        n_messages, n_conversations = _copy(source, into)
    finally:
        source.close()
    return (
        f"The database of conversations was damaged ({damage.splitlines()[0]}). "
        f"{n_conversations} conversations with {n_messages} messages could be read and are here; "
        f"the damaged file is kept as {aside}."
    )


def _copy(source: sqlite3.Connection, into: Database) -> tuple[int, int]:
    """Copy what can be read; returns the numbers of messages and of conversations."""
    now = time.time()
    newest: dict[int, int] = {}  # conversation -> its newest message so far
    home: dict[int, int] = {}  # message -> its conversation
    known: set[int] = set()
    leaves: dict[int, int | None] = {}
    with into.write() as c:
        for row in _rows(source, "conversation"):
            known.add(row["id"])
            leaves[row["id"]] = row["leaf"]
            c.execute(
                "INSERT INTO conversation(id, title, created, updated, model, settings, pinned, deleted)"
                " VALUES (?,?,?,?,?,?,?,?)",
                [
                    row[k]
                    for k in ("id", "title", "created", "updated", "model", "settings", "pinned", "deleted")
                ],
            )
        for row in _rows(source, "message"):
            id, conversation, parent = row["id"], row["conversation"], row["parent"]
            if conversation not in known:
                known.add(conversation)
                c.execute(
                    "INSERT INTO conversation(id, title, created, updated) VALUES (?,?,?,?)",
                    (conversation, "Recovered conversation", row["created"], now),
                )
            if parent is not None and home.get(parent) != conversation:
                parent = newest.get(conversation)  # it is lost: the message before it takes its place
            try:
                c.execute(
                    "INSERT INTO message(id, conversation, parent, role, state, created, content, figures,"
                    " attachments) VALUES (?,?,?,?,?,?,?,?,?)",
                    (id, conversation, parent, *(row[k] for k in _CONTENT)),
                )
            except sqlite3.IntegrityError:
                continue  # not a message any more
            home[id], newest[conversation] = conversation, id
        for conversation, last in newest.items():
            leaf = leaves.get(conversation)
            kept = leaf if leaf is not None and home.get(leaf) == conversation else last
            c.execute("UPDATE conversation SET leaf = ? WHERE id = ?", (kept, conversation))
    return len(home), len(known)


_CONTENT = ("role", "state", "created", "content", "figures", "attachments")
