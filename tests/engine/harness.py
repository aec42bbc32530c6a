"""An engine process for tests: send commands, wait for events, look at everything that arrived."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from app.engine.client import EngineClient
from app.engine.dialogue import CLOSING
from app.engine.protocol import (
    CacheChanged,
    Command,
    Died,
    Event,
    Finished,
    Generate,
    Hello,
    Load,
    Loaded,
    Sampling,
    SetCache,
    TextChunk,
    Turn,
)

E = TypeVar("E", bound=Event)

PATIENCE = 180
"""Seconds after which a missing event fails a test. Nothing depends on how long things take."""

GREEDY = Sampling(temperature=0.0, max_tokens=24)

FILLER = "The cache holds a key and a value for every token that the model has read so far. "


def user(text: str) -> tuple[Turn, ...]:
    """A conversation of one message."""
    return (Turn("user", text),)


class Harness:
    """A client, its events in order, and shortcuts."""

    def __init__(self, log_path: Path) -> None:
        self.events: list[Event] = []
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.client = EngineClient(self._queue.put, log_path)

    def next_id(self) -> int:
        return self.client.next_id()

    def send(self, command: Command) -> int:
        """Send a command; its id."""
        self.client.send(command)
        return command.id

    def until(self, *kinds: type[E], id: int | None = None) -> E:
        """The next event of one of these kinds (and of this command)."""
        while True:
            event = self._queue.get(timeout=PATIENCE)
            self.events.append(event)
            if isinstance(event, kinds) and (id is None or event.id == id):
                return event
            if isinstance(event, Died) or (isinstance(event, CLOSING) and event.id == id):
                raise AssertionError(f"unexpected: {event}")

    def ask(self, command: Command, *kinds: type[E]) -> E:
        """Send a command and wait for its closing event."""
        self.send(command)
        return self.until(*kinds, id=command.id)

    # ------------------------------------------------------------------ shortcuts

    def start(self) -> Hello:
        self.client.start()
        return self.until(Hello)

    def load(
        self, path: Path, n_ctx: int = 0, kv: tuple[str, str] = ("f16", "f16"), n_threads: int = 1
    ) -> Loaded:
        command = Load(self.next_id(), str(path), n_ctx, kv[0], kv[1], n_threads=n_threads, accept_loss=True)
        return self.ask(command, Loaded)

    def generate(self, turns: Sequence[Turn], sampling: Sampling = GREEDY, prefix: str = "") -> Finished:
        command = Generate(self.next_id(), tuple(turns), sampling, prefix)
        return self.ask(command, Finished)

    def set_cache(self, type_k: str = "", type_v: str = "", n_ctx: int = -1, **more: int) -> CacheChanged:
        command = SetCache(self.next_id(), type_k, type_v, n_ctx, **more, accept_loss=True)  # type: ignore[arg-type]
        return self.ask(command, CacheChanged)

    def chunks(self, id: int) -> str:
        """The text that was streamed for a command."""
        return "".join(e.text for e in self.events if isinstance(e, TextChunk) and e.id == id)
