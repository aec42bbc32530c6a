"""The messages of a conversation: a tree, of which one branch is shown."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Literal

from app.plain_text import one_line
from app.store.database import Database
from app.store.records import Attachment, Conversation, Figures, Message, Role, State
from app.store.rows import CONVERSATION, PLACE, attachments_json, conversation_of, message_of, storable
from quantize.errors import StoreError

_TITLE = 60
_INSERT = """
    INSERT INTO message(conversation, parent, role, state, created, content, figures, attachments)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""


def title_from(content: str) -> str:
    """A title for a conversation that begins with ``content``."""
    for line in content.splitlines():
        title = one_line(line.lstrip("#>*- \t"), _TITLE)
        if title:
            return title
    return ""


class MessageTree:
    """The part of ``Store`` that adds, reads and walks messages."""

    _db: Database

    # ------------------------------------------------------------------ writing messages

    def add(
        self,
        conversation: int,
        role: Role,
        content: str,
        *,
        parent: int | Literal["leaf"] | None = "leaf",
        state: State = "complete",
        figures: Figures | None = None,
        attachments: Sequence[Attachment] = (),
    ) -> Message:
        """Add a message and make it the leaf. A conversation that another process has deleted comes back.

        Args:
            parent: id of the message that it follows, None for the beginning, ``"leaf"`` for the
                end of the branch that is shown. The first user message titles an untitled conversation.
            state: ``partial`` for a reply that is about to be written.
        """
        now, content = time.time(), storable(content)
        with self._db.write() as c:
            row = c.execute("SELECT leaf, title FROM conversation WHERE id = ?", (conversation,)).fetchone()
            if row is None:
                raise StoreError(f"There is no conversation {conversation}.", "It was deleted meanwhile.")
            after = row["leaf"] if parent == "leaf" else parent
            if after is not None and self._home(c, after) != conversation:
                raise StoreError(f"Message {after} is not in conversation {conversation}.")
            id = c.execute(
                _INSERT,
                (
                    conversation,
                    after,
                    role,
                    state,
                    now,
                    content,
                    figures.to_json() if figures else "",
                    attachments_json(attachments),
                ),
            ).lastrowid
            assert id is not None
            title = row["title"] or (title_from(content) if role == "user" else "")
            c.execute(
                "UPDATE conversation SET leaf = ?, updated = ?, title = ?, deleted = NULL WHERE id = ?",
                (id, now, title, conversation),
            )
            c.execute("UPDATE message SET chosen = ? WHERE id = ?", (id, after))
            return self._read(c, id)

    def add_edit(self, message: int, content: str, *, attachments: Sequence[Attachment] = ()) -> Message:
        """Add another version of ``message`` beside it and make it the leaf; the old one stays a branch."""
        old = self.message(message)
        return self.add(old.conversation, old.role, content, parent=old.parent, attachments=attachments)

    def update_partial(self, message: int, content: str) -> None:
        """Save what is written so far of a partial reply."""
        with self._db.write(durable=False) as c:
            c.execute(
                "UPDATE message SET content = ?, state = 'partial' WHERE id = ?", (storable(content), message)
            )

    def finish(
        self, message: int, content: str, *, state: State = "complete", figures: Figures | None = None
    ) -> None:
        """Save the final text of a partial reply."""
        with self._db.write() as c:
            changed = c.execute(
                "UPDATE message SET content = ?, state = ?, figures = ? WHERE id = ?",
                (storable(content), state, figures.to_json() if figures else "", message),
            ).rowcount
            if not changed:
                raise StoreError(f"There is no message {message}.", "It was deleted meanwhile.")
            c.execute(
                "UPDATE conversation SET updated = ? WHERE id = ?", (time.time(), self._home(c, message))
            )

    def settle(self, conversation: int) -> int:
        """Call on opening a conversation: partial replies of a process that ended become ``stopped``.

        Harmless while another process still writes one: its next update makes it partial again.

        Returns:
            How many there were.
        """
        with self._db.write() as c:
            return c.execute(
                "UPDATE message SET state = 'stopped' WHERE conversation = ? AND state = 'partial'",
                (conversation,),
            ).rowcount

    # ------------------------------------------------------------------ reading and walking the tree

    @staticmethod
    def _home(c: sqlite3.Connection, message: int) -> int | None:
        row = c.execute("SELECT conversation FROM message WHERE id = ?", (message,)).fetchone()
        return row[0] if row else None

    @staticmethod
    def _read(c: sqlite3.Connection, id: int) -> Message:
        row = c.execute(f"SELECT m.*, {PLACE} FROM message m WHERE m.id = ?", (id,)).fetchone()
        if row is None:
            raise StoreError(f"There is no message {id}.", "It was deleted meanwhile.")
        return message_of(row)

    def message(self, id: int) -> Message:
        """One message."""
        with self._db.read() as c:
            return self._read(c, id)

    def branch(self, conversation: int) -> list[Message]:
        """The messages from the first to the leaf, in one query however long it is."""
        with self._db.read() as c:
            rows = c.execute(
                f"""
                WITH RECURSIVE up(id, parent, depth) AS (
                    SELECT m.id, m.parent, 0
                    FROM conversation c JOIN message m ON m.id = c.leaf WHERE c.id = ?
                    UNION ALL
                    SELECT m.id, m.parent, up.depth + 1 FROM message m JOIN up ON m.id = up.parent
                )
                SELECT m.*, {PLACE} FROM up JOIN message m ON m.id = up.id ORDER BY up.depth DESC
                """,
                (conversation,),
            ).fetchall()
        return [message_of(row) for row in rows]

    def tree(self, conversation: int) -> list[Message]:
        """Every message of every branch, parents before children."""
        with self._db.read() as c:
            rows = c.execute(
                f"SELECT m.*, {PLACE} FROM message m WHERE m.conversation = ? ORDER BY m.id", (conversation,)
            ).fetchall()
        return [message_of(row) for row in rows]

    def siblings(self, message: int) -> list[Message]:
        """The messages at the place of ``message``, itself included, oldest first."""
        with self._db.read() as c:
            here = self._read(c, message)
            rows = c.execute(
                f"SELECT m.*, {PLACE} FROM message m"
                " WHERE m.conversation = ? AND m.parent IS ? ORDER BY m.id",
                (here.conversation, here.parent),
            ).fetchall()
        return [message_of(row) for row in rows]

    def switch_to(self, message: int) -> int:
        """Show the branch through ``message``, down to where the person last was on it; the new leaf."""
        with self._db.write() as c:
            here = self._read(c, message)
            leaf = int(
                c.execute(
                    """
                WITH RECURSIVE down(id, depth) AS (
                    SELECT ?, 0
                    UNION ALL
                    SELECT coalesce(
                               (SELECT k.id FROM message k WHERE k.id = m.chosen AND k.parent = m.id),
                               (SELECT max(k.id) FROM message k WHERE k.parent = m.id)), down.depth + 1
                    FROM down JOIN message m ON m.id = down.id
                    WHERE EXISTS (SELECT 1 FROM message k WHERE k.parent = m.id)
                )
                SELECT id FROM down ORDER BY depth DESC LIMIT 1
                """,
                    (message,),
                ).fetchone()[0]
            )
            c.execute("UPDATE message SET chosen = ? WHERE id = ?", (message, here.parent))
            c.execute("UPDATE conversation SET leaf = ? WHERE id = ?", (leaf, here.conversation))
        return leaf

    def set_leaf(self, conversation: int, message: int | None) -> None:
        """End the branch that is shown at ``message`` (to regenerate a reply, for example)."""
        with self._db.write() as c:
            if message is not None and self._home(c, message) != conversation:
                raise StoreError(f"Message {message} is not in conversation {conversation}.")
            c.execute("UPDATE conversation SET leaf = ? WHERE id = ?", (message, conversation))

    def set_seen_from(self, conversation: int, message: int) -> None:
        """Remember that the model is told of nothing before ``message`` (0: of everything)."""
        with self._db.write() as c:
            c.execute("UPDATE conversation SET seen_from = ? WHERE id = ?", (message, conversation))

    def delete_branch(self, message: int) -> None:
        """Delete ``message`` and all that follows it; a sibling or the parent is shown instead."""
        here = self.message(message)
        others = [m.id for m in self.siblings(message) if m.id != message]
        with self._db.write() as c:
            c.execute("UPDATE conversation SET leaf = ? WHERE id = ?", (here.parent, here.conversation))
            c.execute(
                """
                WITH RECURSIVE down(id) AS (
                    SELECT ? UNION ALL SELECT m.id FROM message m JOIN down ON m.parent = down.id
                )
                DELETE FROM message WHERE id IN (SELECT id FROM down)
                """,
                (message,),
            )
        if others:
            self.switch_to(others[-1])

    def add_tree(
        self,
        messages: Sequence[Message],
        *,
        title: str,
        created: float,
        model: str,
        settings: str,
        leaf: int | None,
    ) -> Conversation:
        """Add a conversation with all its branches (an import). Ids are replaced by new ones.

        Args:
            messages: parents before children; ``parent`` and ``leaf`` refer to the ids in this list.
        """
        new: dict[int, int] = {}
        with self._db.write() as c:
            conversation = c.execute(
                "INSERT INTO conversation(title, created, updated, model, settings) VALUES (?,?,?,?,?)",
                (storable(title), created, time.time(), storable(model), storable(settings)),
            ).lastrowid
            for m in messages:
                row = c.execute(
                    _INSERT,
                    (
                        conversation,
                        None if m.parent is None else new[m.parent],
                        m.role,
                        m.state,
                        m.created,
                        storable(m.content),
                        m.figures.to_json(),
                        attachments_json(m.attachments),
                    ),
                )
                assert row.lastrowid is not None
                new[m.id] = row.lastrowid
            c.execute(
                "UPDATE conversation SET leaf = ? WHERE id = ?",
                (new[leaf] if leaf is not None else None, conversation),
            )
            found = c.execute(CONVERSATION + "WHERE c.id = ?", (conversation,)).fetchone()
        return conversation_of(found)
