"""The controller between the page and the engine: no widget, no screen.

The session owns the engine's process, the store and the settings. What a person does
arrives as a method call; what the engine answers becomes a message of
``app.chat.messages`` for the application. Everything runs on the event loop's thread; the
engine's reader thread only puts events into a queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from app.chat.messages import Phase
from app.engine import protocol

if TYPE_CHECKING:
    from textual.message import Message

    from app.store.settings import Settings
    from app.store.store import Store


class Session:
    """One conversation with one engine.

    Attributes that widgets may read (never write): ``phase``, ``loaded`` (model and its
    cache, or None), ``status`` (the last figures, or None), ``conversation_id``,
    ``settings``, ``store``, ``busy`` (a reply is being made).
    """

    phase: Phase
    loaded: protocol.Loaded | None
    status: protocol.Status | None
    conversation_id: int
    settings: Settings
    store: Store

    def __init__(self, store: Store, settings: Settings, post: Callable[[Message], object]) -> None: ...

    # ---------------------------------------------------------------- life

    def start(self, model: str) -> None:
        """Start the engine and load ``model`` (a name or a path). Returns at once."""

    def close(self) -> None:
        """Commit what is unfinished and end the engine."""

    # ---------------------------------------------------------------- talking

    def send_message(self, text: str) -> None:
        """Say something. Before the engine is ready, or while it writes, the message waits."""

    def stop(self) -> bool:
        """Stop the reply or the prefill. False if nothing runs."""

    def regenerate(self, message_id: int = 0) -> None:
        """Write a reply again as a sibling of the old one."""

    def continue_reply(self, message_id: int = 0) -> None:
        """Let an unfinished reply go on from its last word."""

    def edit(self, message_id: int, text: str) -> None:
        """Say a user message differently: a sibling of it, with a new reply."""

    def switch_branch(self, message_id: int, step: int) -> None:
        """Show the previous or the next sibling of a message."""

    # ---------------------------------------------------------------- the cache and the model

    def set_cache(self, type_k: str = "", type_v: str = "", *, reprefill: bool = False) -> None:
        """Change the types of the cache; empty leaves one as it is."""

    def next_preset(self, step: int = 1) -> None:
        """Go on to the next preset that this model can use."""

    def set_ctx(self, n_ctx: int) -> None:
        """Change the length of the context."""

    def set_tail(self, tail: int) -> None:
        """Change the window of exact tokens."""

    def undo_cache(self) -> None:
        """Go back to the cache before the last change."""

    def reprefill(self) -> None:
        """Read the conversation again with the present types."""

    async def preview_cache(
        self, type_k: str = "", type_v: str = "", n_ctx: int = -1, tail: int = -1
    ) -> protocol.CachePreview:
        """What a change would need and gain.

        Raises:
            StretchError: if the engine refuses or is not there.
        """
        raise asyncio.CancelledError

    async def count_tokens(self, text: str) -> int:
        """Tokens of a text, by the loaded model.

        Raises:
            StretchError: if the engine is not there.
        """
        raise asyncio.CancelledError

    def resolve_full(self, option: protocol.FullOption) -> None:
        """Take one of the ways out of a full context and go on with the reply."""

    def load_model(self, name: str) -> None:
        """Load another model; the conversation stays and is read again."""

    # ---------------------------------------------------------------- conversations

    def open_conversation(self, conversation_id: int, message_id: int = 0) -> None:
        """Go to a stored conversation."""

    def new_conversation(self) -> None:
        """Begin an empty one. It is stored with its first message."""

    def rename(self, conversation_id: int, title: str) -> None:
        """Give a conversation another title."""

    def delete(self, conversation_id: int) -> None:
        """Delete a conversation; a new one follows if it was on the page."""

    def set_setting(self, key: str, value: object, scope: str = "conversation") -> None:
        """Change and remember one setting."""
