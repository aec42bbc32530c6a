"""Self-tests: each does what the chat does, with the real engine and the built-in models."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from app import paths
from app.engine.client import EngineClient
from app.engine.protocol import (
    CacheChanged,
    Command,
    Died,
    Event,
    Failed,
    Finished,
    Generate,
    Hello,
    Load,
    Loaded,
    Sampling,
    SetCache,
    Turn,
)
from app.store.preferences import Preferences
from app.store.store import Store
from models.resolve import BUILTIN, resolve
from quantize.cache_types import CACHE_TYPES
from quantize.errors import EngineError, StoreError, StretchError

_TIMEOUT_S = 120.0
_Closing = TypeVar("_Closing")


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one self-test."""

    name: str
    ok: bool
    detail: str
    seconds: float


def run_all(probed: dict[str, Any] | EngineError) -> Iterator[Result]:
    """Run every self-test, one after the other; a failure never stops the rest.

    Args:
        probed: what ``probe.ask`` found, or why it could not.
    """
    yield _timed("settings", _settings)
    yield _timed("conversations", _conversations)
    yield _timed("cache types", lambda: _types(probed))
    yield from _engine()


def _timed(name: str, test: Callable[[], str]) -> Result:
    start = time.monotonic()
    try:
        detail, ok = test(), True
    except StretchError as error:
        detail, ok = str(error), False
    return Result(name, ok, detail, time.monotonic() - start)


def _settings() -> str:
    problems = Preferences(paths.settings_path()).problems
    if problems:
        raise StoreError(problems[0])
    return "can be read" if paths.settings_path().exists() else "all at their defaults"


def _conversations() -> str:
    path = paths.database_path()
    if not path.exists():
        return "none yet"
    store = Store(path)
    try:
        problems = [*store.notices, *store.problems()]
        if problems:
            raise StoreError(problems[0])
        return f"{store.count()}, all intact"
    finally:
        store.close()


def _types(probed: dict[str, Any] | EngineError) -> str:
    if isinstance(probed, EngineError):
        raise probed
    wrong = [problem for problem in probed["types"].values() if problem]
    if wrong:
        raise EngineError(wrong[0])
    return f"{len(probed['types'])} agree with the library: {', '.join(probed['types'])}"


def _engine() -> Iterator[Result]:
    talk = _Talk(paths.log_path())
    try:
        started = _timed("engine starts", talk.start)
        yield started
        if not started.ok:
            return
        for name in BUILTIN:
            yield _timed(f"model {name}", lambda name=name: talk.load_and_reply(name))  # type: ignore[misc]
        yield _timed("cache switches", talk.switch)
    finally:
        talk.client.close()


class _Talk:
    """A conversation with the engine, one command at a time."""

    def __init__(self, log: Path) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.client = EngineClient(self._events.put, log)
        self._model = ""

    def start(self) -> str:
        paths.private_dir(self.client.log_path.parent)
        self.client.start()
        return self._wait(0, Hello).engine

    def load_and_reply(self, name: str) -> str:
        # A mapped model and a short context: this must work on a machine that is nearly full.
        self._do(lambda id: Load(id, str(resolve(name)), n_ctx=512), Loaded)
        self._model = name
        return self._reply()

    def switch(self) -> str:
        if not self._model:
            raise EngineError("No model could be loaded.")
        stock = [t.name for t in CACHE_TYPES.values() if not t.native]
        for name in (*stock, "f16"):
            changed = self._do(lambda id, name=name: SetCache(id, name, name, accept_loss=True), CacheChanged)  # type: ignore[misc]
            if (changed.type_k, changed.type_v) != (name, name):
                raise EngineError(f"The cache is {changed.type_k}/{changed.type_v} instead of {name}.")
            if changed.reprefilled:
                raise EngineError(f"The conversation had to be read again for {name}.")
        self._reply()
        return f"to each of {len(stock)} types and back, without reading the conversation again"

    def _reply(self) -> str:
        turns = (Turn("user", "Say hello."),)
        sampling = Sampling(temperature=0.0, max_tokens=8)
        finished = self._do(lambda id: Generate(id, turns, sampling), Finished)
        if not finished.n_generated:
            raise EngineError("The model gave an empty reply.")
        speed = finished.n_generated / max(finished.generate_s, 1e-9)
        return f"replied with {finished.n_generated} tokens, {speed:.0f} per second"

    def _do(self, make: Callable[[int], Command], closing: type[_Closing]) -> _Closing:
        id = self.client.next_id()
        self.client.send(make(id))
        return self._wait(id, closing)

    def _wait(self, id: int, closing: type[_Closing]) -> _Closing:
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise EngineError(f"The engine did not answer within {_TIMEOUT_S:.0f} s.") from None
            if isinstance(event, Died):
                raise EngineError(event.sentence)
            if isinstance(event, Failed) and event.id == id:
                raise EngineError(event.message, event.hint)
            if isinstance(event, closing) and event.id == id:
                return event
