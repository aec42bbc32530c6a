"""What stands on the page, one entry after the other, whether a widget shows it or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.chat.messages import Notice
from app.store.records import Message


@dataclass(slots=True)
class Entry:
    """One thing on the page."""

    message: Message | None = None
    notice: Notice | None = None
    divider: str = ""
    """A line across, with this text in it."""
    text: str = ""
    """Of a reply that is being written: what has arrived."""

    @property
    def id(self) -> int:
        """The id of the message, 0 where there is none."""
        return self.message.id if self.message else 0


def entries_of(messages: Sequence[Message], seen_from: int = 0) -> list[Entry]:
    """The entries of a conversation; a line stands before the first message that the model is told of."""
    entries: list[Entry] = []
    for message in messages:
        if message.role == "system":
            continue
        if seen_from and message.id == seen_from:
            entries.append(Entry(divider="the model is not told what stands above"))
        entries.append(Entry(message=message))
    return entries


def common_beginning(present: Sequence[Entry], wanted: Sequence[Entry]) -> int:
    """How many of the present entries can stay where ``wanted`` is to be shown.

    Quiet lines are not counted in ``wanted``: one between two entries that stay, stays.
    """
    n = 0
    remaining = iter(wanted)
    expected = next(remaining, None)
    for place, entry in enumerate(present):
        if entry.notice is not None:
            continue
        if expected is None or entry.divider != expected.divider or entry.id != expected.id:
            break
        n = place + 1
        expected = next(remaining, None)
    return n
