"""The conversations: every message that is complete is on the disk before its method returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from app.store.records import Attachment, Conversation, Figures, Message, Role, SearchHit, State


class Store:
    """The database of conversations. Any thread may call any method; several processes may share a file.

    Raises:
        StoreError: from any method, if the database cannot be read or written. Unknown ids too.
    """

    def __init__(self, path: Path) -> None:
        """Open the database at ``path``, making it if it is missing.

        A damaged file is moved aside, what can still be read is taken over, and ``notices`` says so.
        """
        self.path = path
        self.notices: tuple[str, ...] = ()
        """Sentences that the user should see once."""

    def close(self) -> None:
        """Remove for good what was deleted through this object, and close the file."""
        raise OSError

    # ------------------------------------------------------------------ conversations

    def new_conversation(self, *, title: str = "", model: str = "", settings: str = "") -> Conversation:
        """Make an empty conversation. Lists leave it out until it has a message."""
        raise OSError

    def conversation(self, id: int) -> Conversation:
        """One conversation (a deleted one too, until ``close``)."""
        raise OSError

    def latest(self) -> Conversation | None:
        """The conversation that was used last."""
        raise OSError

    def conversations(self, *, limit: int = 200, offset: int = 0) -> list[Conversation]:
        """Conversations: pinned ones first, then the one that was used last."""
        raise OSError

    def count(self) -> int:
        """How many conversations ``conversations`` would give without a limit."""
        raise OSError

    def search(self, text: str, *, limit: int = 50) -> list[SearchHit]:
        """Conversations whose title or messages hold all words of ``text`` (their beginnings are enough)."""
        raise OSError

    def rename(self, id: int, title: str) -> None:
        """Give a conversation another title."""

    def set_model(self, id: int, model: str) -> None:
        """Remember which model the conversation uses."""

    def set_settings(self, id: int, settings: str) -> None:
        """Replace the conversation's own settings (a TOML text)."""

    def pin(self, id: int, pinned: bool = True) -> None:
        """Keep a conversation at the top of the list, or stop doing so."""

    def delete(self, id: int) -> None:
        """Delete a conversation. ``restore`` brings it back until the store is closed."""

    def restore(self, id: int) -> None:
        """Take back ``delete``."""

    # ------------------------------------------------------------------ messages

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
        """Add a message and make it the leaf.

        Args:
            parent: id of the message that it follows, None for the beginning, ``"leaf"`` for the
                end of the branch that is shown. The first user message titles an untitled conversation.
            state: ``partial`` for a reply that is about to be written.
        """
        raise OSError

    def add_edit(self, message: int, content: str, *, attachments: Sequence[Attachment] = ()) -> Message:
        """Add another version of ``message`` beside it and make it the leaf; the old one stays a branch."""
        raise OSError

    def update_partial(self, message: int, content: str) -> None:
        """Save what is written so far of a partial reply."""

    def finish(
        self, message: int, content: str, *, state: State = "complete", figures: Figures | None = None
    ) -> None:
        """Save the final text of a partial reply."""

    def settle(self, conversation: int) -> int:
        """Call on opening a conversation: partial replies of a process that ended become ``stopped``."""
        raise OSError

    def message(self, id: int) -> Message:
        """One message."""
        raise OSError

    def branch(self, conversation: int) -> list[Message]:
        """The messages from the first to the leaf, in two queries however long it is."""
        raise OSError

    def tree(self, conversation: int) -> list[Message]:
        """Every message of every branch, parents before children."""
        raise OSError

    def siblings(self, message: int) -> list[Message]:
        """The messages at the place of ``message``, itself included, oldest first."""
        raise OSError

    def switch_to(self, message: int) -> int:
        """Show the branch through ``message``, down to where the person last was on it; the new leaf."""
        raise OSError

    def set_leaf(self, conversation: int, message: int | None) -> None:
        """End the branch that is shown at ``message`` (to regenerate a reply, for example)."""

    def delete_branch(self, message: int) -> None:
        """Delete ``message`` and all that follows it; a sibling or the parent is shown instead."""
