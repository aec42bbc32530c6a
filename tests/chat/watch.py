"""Waiting for the application without sleeping: for its own messages, not for the clock."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import TypeVar

from textual.message import Message
from textual.pilot import Pilot

from app.chat.app import StretchApp

M = TypeVar("M", bound=Message)

PATIENCE_S = 90.0
"""A bound for a test that hangs; nothing is measured with it."""


class Watch:
    """Sees every message that the session posts, and waits until something is true."""

    def __init__(self, pilot: Pilot[int]) -> None:
        app = pilot.app
        assert isinstance(app, StretchApp)
        self.pilot = pilot
        self.app = app
        self.session = app.session
        self.seen: list[Message] = []
        self._news = asyncio.Event()
        self._post = self.session.post
        self.session.post = self._see
        self._signal_at: tuple[Callable[[Message], bool], int] | None = None

    def _see(self, message: Message) -> object:
        self.seen.append(message)
        self._news.set()
        if self._signal_at is not None and self._signal_at[0](message):
            self.strike(self._signal_at[1])
            self._signal_at = None
        return self._post(message)

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until ``true()`` holds; it is asked again after each message."""
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                await self._news.wait()
                self._news.clear()
                await self.pilot.pause()

    async def frozen_at(self, kind: type[Message], text: str) -> None:
        """Say ``text`` and hold the engine's process at the first message of one kind.

        However fast the machine is, the engine is then in the middle of its work until ``thaw``.
        """
        self.strike_at(lambda message: isinstance(message, kind), signal.SIGSTOP)
        await self.say(text)
        await self.until(lambda: self.struck)

    def strike_at(self, moment: Callable[[Message], bool], signal_number: int) -> None:
        """Send the engine a signal in the very moment in which such a message is posted."""
        self._signal_at = (moment, signal_number)

    @property
    def struck(self) -> bool:
        """Whether that moment has come."""
        return self._signal_at is None

    def strike(self, signal_number: int) -> None:
        """Send the engine a signal now, or as soon as there is a process again."""
        try:
            os.kill(self.session.life.link.pid, signal_number)
        except ProcessLookupError:
            asyncio.get_running_loop().call_soon(self.strike, signal_number)

    def thaw(self) -> None:
        """Let the engine go on."""
        self.strike(signal.SIGCONT)

    async def ready(self) -> None:
        """Wait until a model is loaded and nothing is under way."""
        await self.until(lambda: self.session.phase == "ready" and not self.session.busy)

    async def say(self, text: str) -> None:
        """Type a message into the input and send it."""
        self.app.chat.composer.put(text)
        await self.pilot.pause()
        await self.pilot.press("enter")
        await self.pilot.pause()

    def texts(self, role: str = "") -> list[str]:
        """What stands on the page."""
        return [m.content for m in self.session.page.messages if not role or m.role == role]

    def of(self, kind: type[M]) -> list[M]:
        """The messages of one kind."""
        return [m for m in self.seen if isinstance(m, kind)]
