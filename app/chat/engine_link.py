"""Between the engine's reader thread and the event loop, and between a command and its answer."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from app.engine import protocol
from app.engine.client import EngineClient
from quantize import errors
from quantize.errors import EngineDiedError

E = TypeVar("E", protocol.CachePreview, protocol.PrunePreview, protocol.TokenCount)


class EngineLink:
    """The engine as the session sees it: events arrive on the loop, in order, a few at a time.

    Pieces of text that arrived together become one event: at several hundred tokens per second
    the page still has to be drawn only a dozen times.
    """

    def __init__(self, on_event: Callable[[protocol.Event], None], log_path: Path) -> None:
        self._on_event = on_event
        self._client = EngineClient(self._arrive, log_path)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived: deque[protocol.Event] = deque()
        self._lock = threading.Lock()
        self._scheduled = False
        self._answers: dict[int, asyncio.Future[protocol.Event]] = {}

    @property
    def pid(self) -> int:
        """The process, 0 before the first start."""
        return self._client.pid

    def start(self) -> None:
        """Start the process, from the event loop's thread.

        Raises:
            EngineError: if it cannot be started.
        """
        self._loop = asyncio.get_running_loop()
        self._client.start()

    def close(self, timeout: float = 3.0) -> None:
        """End the process, by force after ``timeout`` seconds; nothing arrives any more."""
        self._loop = None
        self._fail_answers()
        self._client.close(timeout)

    def kill(self) -> None:
        """End the process by force and on purpose; another one can be started at once."""
        self._client.kill()
        self._fail_answers()
        with self._lock:
            self._arrived.clear()

    def next_id(self) -> int:
        """A fresh id for a command."""
        return self._client.next_id()

    def send(self, command: protocol.Command) -> bool:
        """Send a command. False if the engine is gone: ``Died`` then arrives, or has arrived."""
        try:
            self._client.send(command)
        except EngineDiedError:
            return False
        return True

    async def ask(
        self, command: protocol.SetCache | protocol.PruneCache | protocol.CountTokens, kind: type[E]
    ) -> E:
        """Send a command and wait for its closing event, which is not reported otherwise.

        Raises:
            StretchError: as the engine says, or because it is gone.
        """
        answer: asyncio.Future[protocol.Event] = asyncio.get_running_loop().create_future()
        self._answers[command.id] = answer
        try:
            if not self.send(command):
                raise EngineDiedError("The engine is not running.", "Try again in a moment.")
            event = await answer
        finally:
            self._answers.pop(command.id, None)
        if isinstance(event, protocol.Failed):
            raise errors.reported(event.kind, event.message, event.hint)
        if not isinstance(event, kind):
            raise EngineDiedError("The engine ended before it could answer.", "Try again in a moment.")
        return event

    # ---------------------------------------------------------------- events

    def _arrive(self, event: protocol.Event) -> None:
        """From the reader thread."""
        loop = self._loop
        if loop is None:
            return
        with self._lock:
            self._arrived.append(event)
            if self._scheduled:
                return
            self._scheduled = True
        try:
            loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop was closed while the engine ended
            return

    def _deliver(self) -> None:
        with self._lock:
            events = list(self._arrived)
            self._arrived.clear()
            self._scheduled = False
        for event in join_chunks(events):
            answer = self._answers.get(event.id) if event.id else None
            closes = not isinstance(event, protocol.PrefillProgress)
            if answer is not None and not answer.done() and closes:
                answer.set_result(event)
                continue
            if isinstance(event, protocol.Died):
                self._fail_answers()
            if self._loop is not None:
                self._on_event(event)

    def _fail_answers(self) -> None:
        died = protocol.Died(0, "", 0)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(died)


def join_chunks(events: list[protocol.Event]) -> list[protocol.Event]:
    """``events`` with neighbouring pieces of one reply made into one."""
    joined: list[protocol.Event] = []
    for event in events:
        last = joined[-1] if joined else None
        if (
            isinstance(event, protocol.TextChunk)
            and isinstance(last, protocol.TextChunk)
            and last.id == event.id
        ):
            joined[-1] = replace(event, text=last.text + event.text)
        else:
            joined.append(event)
    return joined
