"""The end of a conversation, for the pane beside the list."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from app.chat.format import clip, fit
from app.chat.panel.bars import Line, Piece
from app.chat.panel.lines import Lines
from app.plain_text import one_line
from app.store.records import Conversation, Message

_MESSAGES = 6
_CHARACTERS = 1200
"""Of one message; more could not be seen anyway."""


class ConversationEnd(Lines):
    """The newest messages, as many of their last lines as there is room for."""

    def __init__(self) -> None:
        super().__init__(id="end")
        self._title = ""
        self._messages: list[Message] = []

    def show(self, conversation: Conversation | None, branch: Sequence[Message]) -> None:
        """Show the end of a conversation; None shows nothing."""
        self._title = one_line(conversation.title) if conversation is not None else ""
        self._messages = list(branch[-_MESSAGES:])
        self.redraw()

    def build(self, width: int) -> Sequence[Line]:
        height = self.size.height
        lines: list[Line] = []
        for message in self._messages:
            who = "You" if message.role == "user" else "Reply"
            lines.append((Piece(fit(who, width), "current" if message.role == "user" else "title"),))
            text = message.content[-_CHARACTERS:]
            for paragraph in text.splitlines():
                wrapped = textwrap.wrap(one_line(paragraph), max(8, width - 2)) or []
                lines += [(Piece("  " + clip(line, width - 2), "muted"),) for line in wrapped]
            lines.append((Piece(" "),))
        shown = lines[:-1][-height:] if height else []
        return shown + [(Piece(" "),)] * (height - len(shown))
