"""The conversation on the page: the branch that is shown, and what the model is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.engine.protocol import Turn
from app.plain_text import one_line
from app.store.records import Attachment, Figures, Message, State
from app.store.store import Store


def spoken(message: Message) -> str:
    """A message as the model reads it: the files that were attached to it, then its text.

    So conversations about one file begin alike whatever is asked, and share what was parked of it.
    """
    parts = []
    for attachment in message.attachments:
        fence = "```"
        while fence in attachment.text:
            fence += "`"
        parts.append(f"File {one_line(attachment.name)}:\n{fence}\n{attachment.text}\n{fence}")
    return "\n\n".join(part for part in (*parts, message.content) if part)


def turns_of(messages: Sequence[Message], system_prompt: str = "") -> tuple[Turn, ...]:
    """The conversation for the chat template.

    Templates insist on user and assistant in turn, so what one of them said twice in a row (a
    question whose reply failed, then another) becomes one turn; empty replies are left out.
    """
    turns = [Turn("system", system_prompt)] if system_prompt.strip() else []
    for message in messages:
        text = spoken(message)
        if message.role == "system" or not text:
            continue
        if turns and turns[-1].role == message.role:
            turns[-1] = Turn(message.role, f"{turns[-1].content}\n\n{text}")
        else:
            turns.append(Turn(message.role, text))
    return tuple(turns)


class Page:
    """One conversation of the store with its visible branch in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.id = 0
        """The conversation, 0 while it has no message yet."""
        self.title = ""
        self.messages: list[Message] = []
        """The visible branch, oldest first."""
        self.seen_from = 0
        """The first message that the model is told of (0: all); earlier ones were dropped by the user."""

    def clear(self) -> None:
        """Begin an empty conversation; it is stored with its first message."""
        self.id, self.title, self.messages, self.seen_from = 0, "", [], 0

    def open(self, conversation: int) -> None:
        """Show a stored conversation.

        Raises:
            StoreError: if there is none.
        """
        record = self._store.conversation(conversation)
        self._store.settle(conversation)
        self.id, self.title, self.seen_from = record.id, record.title, record.seen_from
        self.reload()

    def reload(self) -> None:
        """Read the visible branch again."""
        self.messages = self._store.branch(self.id) if self.id else []

    def say(self, text: str, attachments: Sequence[Attachment], model: str) -> Message:
        """Add what the user says."""
        if not self.id:
            self.id = self._store.new_conversation(model=model).id
        message = self._store.add(self.id, "user", text, attachments=attachments)
        self.messages.append(message)
        if not self.title:
            self.title = self._store.conversation(self.id).title
        return message

    def begin_reply(self) -> Message:
        """Add an empty reply after the last message."""
        message = self._store.add(self.id, "assistant", "", state="partial")
        self.reload() if message.n_siblings > 1 else self.messages.append(message)
        return message

    def refresh(self, message_id: int) -> Message | None:
        """Read one message again; None if it is not on the visible branch."""
        for n, message in enumerate(self.messages):
            if message.id == message_id:
                self.messages[n] = self._store.message(message_id)
                return self.messages[n]
        return None

    def keep(self, message_id: int, text: str, state: State, figures: Figures | None) -> None:
        """Show a reply that the store does not have yet."""
        for n, message in enumerate(self.messages):
            if message.id == message_id:
                self.messages[n] = replace(
                    message, content=text, state=state, figures=figures or message.figures
                )

    def forget(self, message_id: int) -> None:
        """Show a message no more."""
        self.messages = [m for m in self.messages if m.id != message_id]

    def find(self, message_id: int) -> Message | None:
        """A message of the visible branch."""
        return next((m for m in reversed(self.messages) if m.id == message_id), None)

    def last(self, role: str) -> Message | None:
        """The last message of the user or of the assistant."""
        return next((m for m in reversed(self.messages) if m.role == role), None)

    def prompt(self, upto: int, system_prompt: str) -> tuple[Turn, ...]:
        """What the model reads for the reply ``upto``, which is not part of it."""
        told: list[Message] = []
        for message in self.messages:
            if message.id == upto:
                break
            if message.id == self.seen_from:
                told = []
            told.append(message)
        return turns_of(told, system_prompt)

    def drop(self, n_turns: int, upto: int) -> None:
        """Tell the model no more of the ``n_turns`` oldest turns it still sees."""
        seen = [m for m in self.messages if m.id < upto or not upto]
        start = next((n for n, m in enumerate(seen) if m.id == self.seen_from), 0)
        # What one side says twice in a row is one turn, and what is empty is none: as in turns_of.
        spoken_to = [m for m in seen[start:] if m.role != "system" and spoken(m)]
        begins = [m for n, m in enumerate(spoken_to) if not n or spoken_to[n - 1].role != m.role]
        if n_turns < len(begins):
            self.seen_from = begins[n_turns].id
            self._store.set_seen_from(self.id, self.seen_from)
