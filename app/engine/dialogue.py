"""An engine without an interface: one command at a time, each waited for."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from app.engine.client import EngineClient
from app.engine.protocol import (
    CacheChanged,
    CachePreview,
    Command,
    ContextFull,
    Died,
    Event,
    Failed,
    Finished,
    Hello,
    Loaded,
    Parked,
    PrunePreview,
    Resumed,
    Status,
    Stop,
    TokenCount,
)
from quantize import errors
from quantize.errors import EngineDiedError, EngineError

E = TypeVar("E", bound=Event)
F = TypeVar("F", bound=Event)

CLOSING = (
    Loaded,
    Finished,
    ContextFull,
    CachePreview,
    PrunePreview,
    CacheChanged,
    Status,
    TokenCount,
    Parked,
    Resumed,
    Failed,
)


class Dialogue:
    """An engine process for a script.

    Args:
        on_event: called with everything that arrives, in the order of arrival.
    """

    def __init__(self, log_path: Path, on_event: Callable[[Event], None] = lambda _event: None) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._on_event = on_event
        self.client = EngineClient(self._events.put, log_path)
        self.engine = ""

    def __enter__(self) -> Self:
        self.client.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def next_id(self) -> int:
        """A fresh id."""
        return self.client.next_id()

    @overload
    def ask(self, command: Command, kind: type[E]) -> E: ...

    @overload
    def ask(self, command: Command, kind: type[E], other: type[F]) -> E | F: ...

    def ask(self, command: Command, kind: Any, other: Any = None) -> Any:
        """Send ``command`` and wait for its closing event. Ctrl-C stops the command, not the engine.

        Raises:
            StretchError: as the engine reports; ``EngineDiedError`` if it ended.
            KeyboardInterrupt: after the command was stopped and had ended.
        """
        self.client.send(command)
        interrupted = False
        while True:
            try:
                event = self._events.get()
            except KeyboardInterrupt:
                if interrupted:  # twice: do not wait for the engine
                    raise
                interrupted = True
                self.client.send(Stop(self.next_id()))
                continue
            self._on_event(event)
            if isinstance(event, Hello):
                self.engine = event.engine
            elif isinstance(event, Died):
                raise EngineDiedError(event.sentence, f"Its log is {self.client.log_path}.")
            elif event.id == command.id and isinstance(event, CLOSING):
                if interrupted:
                    raise KeyboardInterrupt
                if isinstance(event, Failed):
                    raise errors.reported(event.kind, event.message, event.hint)
                if isinstance(event, (kind, other or kind)):
                    return event
                raise EngineError(f"The engine answered with {type(event).__name__}.")
