"""A minimal application to put one widget or one screen into."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from textual.app import App, ComposeResult
from textual.message import Message
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

from app.chat import messages
from app.chat.themes import THEMES

_WISHES = tuple(
    c for c in vars(messages).values() if isinstance(c, type) and issubclass(c, Message) and c is not Message
)


class Host(App[None]):
    """Shows what it is given and keeps the wishes that bubble up to it."""

    AUTO_FOCUS = None
    CSS = "Host > Screen { background: $background; }"

    def __init__(
        self, *widgets: Widget, screen: Screen[None] | None = None, theme: str = "stretch-dark"
    ) -> None:
        super().__init__()
        for own in THEMES:
            self.register_theme(own)
        self.theme = theme
        self._widgets = widgets
        self._first = screen
        self.wishes: list[Message] = []

    def compose(self) -> ComposeResult:
        yield from self._widgets

    def on_mount(self) -> None:
        if self._first is not None:
            self.push_screen(self._first)

    async def _on_message(self, message: Message) -> None:
        if isinstance(message, _WISHES):
            self.wishes.append(message)
        await super()._on_message(message)


async def until(pilot: Pilot[Any], true: Callable[[], object]) -> None:
    """Let the application work until ``true()`` holds. The bound is for a test that hangs."""
    async with asyncio.timeout(60):
        while not true():
            await pilot.pause()
            await asyncio.sleep(0)
