"""Running messages and slash commands one after the other, and printing what comes of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.engine.dialogue import Dialogue
from app.engine.protocol import (
    CacheChanged,
    Event,
    Load,
    Loaded,
    Sampling,
    Status,
)
from app.engine.report import Report
from app.engine.unattended import Conversation, Reply
from quantize.errors import EngineDiedError, StretchError


class Runner:
    """Runs turns in one engine. An engine that dies is started again for the next turn."""

    def __init__(
        self,
        log_path: Path,
        load: Load,
        sampling: Sampling,
        system: str,
        on_full: str,
        report: Report,
    ) -> None:
        self._load = load
        self._report = report
        self._dialogue = Dialogue(log_path, self._event)
        self._conversation = Conversation(
            self._dialogue,
            sampling,
            on_full,
            system,
            on_change=self._changed,
            on_drop=lambda n: report.note(f"The {n} oldest messages were dropped to make room."),
        )

    def __enter__(self) -> Self:
        self._dialogue.client.start()
        try:
            self._open()
        except BaseException:
            self._dialogue.client.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dialogue.client.close()

    def _open(self) -> None:
        load = self._load
        command = replace(load, id=self._dialogue.next_id())
        loaded = self._dialogue.ask(command, Loaded)
        if loaded.warning:
            self._report.warning(loaded.warning)
        for note in loaded.model.notes:
            self._report.note(note)

    def _event(self, event: Event) -> None:
        self._report.event(event)

    def _changed(self, changed: CacheChanged) -> None:
        self._load = replace(
            self._load,
            n_ctx=changed.n_ctx,
            type_k=changed.type_k,
            type_v=changed.type_v,
            tail=changed.tail_wish,
            accept_loss=True,
        )
        if changed.warning:
            self._report.warning(changed.warning)
        self._report.changed(changed)

    def run(self, lines: Iterable[str]) -> bool:
        """Run a script; empty lines are skipped. False if any line failed."""
        outcomes = [self._line(line) for line in lines if line.strip()]
        return all(outcomes)

    def say(self, text: str) -> bool:
        """Run one message, whatever it begins with."""
        return self._try(lambda: self._conversation.say(text))

    def _line(self, line: str) -> bool:
        self._report.line(line)
        if line.startswith("/"):
            return self._try(lambda: self._conversation.command(line))
        return self._try(lambda: self._conversation.say(line))

    def _try(self, turn: Any) -> bool:
        try:
            outcome = turn()
        except EngineDiedError as error:
            self._report.error(error)
            with contextlib.suppress(EngineDiedError):  # it may die again; the next turn then says so
                self._dialogue.client.start()
                self._open()
            return False
        except StretchError as error:
            self._report.error(error)
            return False
        match outcome:
            case Reply():
                self._report.reply(outcome)
            case Status():
                self._report.stats(outcome)
            case str():
                self._report.note(outcome)
        return True
