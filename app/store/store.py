"""The conversations: every message that is complete is on the disk before its method returns."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from app.store import search as searching
from app.store import search_index
from app.store.messages import MessageTree
from app.store.records import Conversation, SearchHit
from app.store.rows import CONVERSATION, conversation_of, storable
from app.store.salvage import open_or_salvage
from quantize.errors import StoreError

_DELETED_FOR_GOOD_S = 3600.0  # after a crash: what was deleted longer ago than this goes on opening
_EMPTY_FOR_GOOD_S = 86400.0  # conversations that never got a message
_TIDY_AT_MOST = 16 << 20
"""Files up to this many bytes have their search index tidied after a deletion (0.3 s at this size)."""

_VISIBLE = "c.deleted IS NULL AND EXISTS (SELECT 1 FROM message m WHERE m.conversation = c.id)"


class Store(MessageTree):
    """The database of conversations. Any thread may call any method; several processes may share a file.

    Raises:
        StoreError: from any method, if the database cannot be read or written, or an id is unknown.
    """

    def __init__(self, path: Path) -> None:
        """Open the database at ``path``, making it if it is missing.

        A damaged file is moved aside, what can still be read is taken over, and ``notices`` says so.
        """
        self.path = path
        self._deleted: set[int] = set()
        self._closed = False
        self.notices: tuple[str, ...]
        """Sentences that the user should see once."""
        self._db, self.notices = open_or_salvage(path)
        now = time.time()
        self._purge(
            "deleted < ? OR (updated < ? AND NOT EXISTS"
            " (SELECT 1 FROM message m WHERE m.conversation = conversation.id))",
            (now - _DELETED_FOR_GOOD_S, now - _EMPTY_FOR_GOOD_S),
        )

    def close(self) -> None:
        """Remove for good what was deleted through this object, and close the file. Twice does no harm."""
        if self._closed:
            return
        self._closed = True
        gone, self._deleted = sorted(self._deleted), set()
        try:
            self._purge(f"deleted IS NOT NULL AND id IN ({','.join('?' * len(gone))})", gone)
        finally:
            self._db.close()

    def _purge(self, where: str, values: Sequence[float]) -> None:
        with self._db.read() as c:
            ids = [row[0] for row in c.execute(f"SELECT id FROM conversation WHERE {where}", values)]
        if ids:
            with self._db.write() as c:
                c.executemany("DELETE FROM conversation WHERE id = ?", [(id,) for id in ids])
                # The index keeps the words (not their order) until it is tidied, by and by on its own.
                if self._db.has_words and self.path.stat().st_size <= _TIDY_AT_MOST:
                    search_index.tidy(c)

    def problems(self) -> list[str]:
        """A thorough check of the file; empty if all is well. Takes seconds on a large one."""
        return self._db.problems()

    # ------------------------------------------------------------------ conversations

    def new_conversation(self, *, title: str = "", model: str = "", settings: str = "") -> Conversation:
        """Make an empty conversation. Lists leave it out until it has a message."""
        now = time.time()
        with self._db.write() as c:
            id = c.execute(
                "INSERT INTO conversation(title, created, updated, model, settings) VALUES (?,?,?,?,?)",
                (storable(title), now, now, storable(model), storable(settings)),
            ).lastrowid
            row = c.execute(CONVERSATION + "WHERE c.id = ?", (id,)).fetchone()
        return conversation_of(row)

    def conversation(self, id: int) -> Conversation:
        """One conversation (a deleted one too, until ``close``)."""
        with self._db.read() as c:
            row = c.execute(CONVERSATION + "WHERE c.id = ?", (id,)).fetchone()
        if row is None:
            raise StoreError(f"There is no conversation {id}.", "The list of chats shows those that exist.")
        return conversation_of(row)

    def has(self, id: int) -> bool:
        """Whether there is such a conversation (a deleted one counts, until ``close``)."""
        with self._db.read() as c:
            return c.execute("SELECT 1 FROM conversation WHERE id = ?", (id,)).fetchone() is not None

    def latest(self) -> Conversation | None:
        """The conversation that was used last."""
        found = self._ordered("c.updated DESC, c.id DESC", 1, 0)
        return found[0] if found else None

    def conversations(self, *, limit: int = 200, offset: int = 0) -> list[Conversation]:
        """Conversations: pinned ones first, then the one that was used last."""
        return self._ordered("c.pinned DESC, c.updated DESC, c.id DESC", limit, offset)

    def _ordered(self, order: str, limit: int, offset: int) -> list[Conversation]:
        # The inner query finds the few, so that messages are counted for these alone.
        few = f"SELECT c.id FROM conversation c WHERE {_VISIBLE} ORDER BY {order} LIMIT ? OFFSET ?"
        with self._db.read() as c:
            rows = c.execute(
                f"{CONVERSATION} WHERE c.id IN ({few}) ORDER BY {order}", (limit, offset)
            ).fetchall()
        return [conversation_of(row) for row in rows]

    def count(self) -> int:
        """How many conversations ``conversations`` would give without a limit."""
        with self._db.read() as c:
            return int(c.execute(f"SELECT count(*) FROM conversation c WHERE {_VISIBLE}").fetchone()[0])

    def search(self, text: str, *, limit: int = 50) -> list[SearchHit]:
        """Conversations whose title or messages hold all words of ``text`` (their beginnings are enough)."""
        text = storable(text).replace("\0", " ")  # SQL would take it for the end
        with self._db.read() as c:
            titles = searching.matching_titles(c, text)
            found: dict[int, list[int]] = {id: [] for id in titles}
            for conversation, message in searching.matching_messages(c, text, indexed=self._db.has_words):
                found.setdefault(conversation, []).append(message)
            ids = list(found)[:limit]
            best = [found[id][0] for id in ids if found[id]]
            conversations = {
                row["id"]: conversation_of(row) for row in self._rows(c, CONVERSATION, "c.id", ids)
            }
            contents = {
                row["id"]: row["content"]
                for row in self._rows(c, "SELECT id, content FROM message", "id", best)
            }
        hits = []
        for id in ids:
            best_message = found[id][0] if found[id] else None
            shown = conversations[id].title if best_message is None else contents[best_message]
            snippet, spans = searching.snippet(shown, text)
            hits.append(SearchHit(conversations[id], best_message, snippet, spans, len(found[id])))
        return hits

    @staticmethod
    def _rows(c: sqlite3.Connection, select: str, column: str, ids: Sequence[int]) -> list[sqlite3.Row]:
        marks = ",".join("?" * len(ids))
        return c.execute(f"{select} WHERE {column} IN ({marks})", tuple(ids)).fetchall()

    def _set(self, id: int, column: str, value: object) -> None:
        with self._db.write() as c:
            if not c.execute(f"UPDATE conversation SET {column} = ? WHERE id = ?", (value, id)).rowcount:
                raise StoreError(f"There is no conversation {id}.", "It was deleted meanwhile.")

    def rename(self, id: int, title: str) -> None:
        """Give a conversation another title."""
        self._set(id, "title", storable(title))

    def set_model(self, id: int, model: str) -> None:
        """Remember which model the conversation uses."""
        self._set(id, "model", storable(model))

    def set_settings(self, id: int, settings: str) -> None:
        """Replace the conversation's own settings (a TOML text)."""
        self._set(id, "settings", storable(settings))

    def pin(self, id: int, pinned: bool = True) -> None:
        """Keep a conversation at the top of the list, or stop doing so."""
        self._set(id, "pinned", int(pinned))

    def delete(self, id: int) -> None:
        """Delete a conversation. ``restore`` brings it back until the store is closed."""
        self._set(id, "deleted", time.time())
        self._deleted.add(id)

    def restore(self, id: int) -> None:
        """Take back ``delete``."""
        self._set(id, "deleted", None)
        self._deleted.discard(id)
