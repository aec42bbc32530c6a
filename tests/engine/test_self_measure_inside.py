"""The self-measurement in this process: its memory, and what interrupts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.engine.budget import Process
from app.engine.inbox import Inbox
from app.engine.log import EngineLog
from app.engine.native import prepare
from app.engine.protocol import Ask, Command, CountTokens, Generate, Load, SetCache, Shutdown, Stop
from app.engine.self_measure import RETRY_SECONDS
from app.engine.session import Session, judge, open_session
from quantize.errors import EngineError
from quantize.lab.setting import parse_setting
from quantize.lab.subject import Subject
from quantize.llama import send_log_to

COMMANDS: tuple[Command, ...] = (
    Stop(1),
    Generate(1, ()),
    SetCache(1, preview=True),
    CountTokens(1),
    Shutdown(1),
)


@pytest.fixture
def session(synthetic: Callable[..., Path], tmp_path: Path, home: Path) -> Iterator[Session]:
    """A real engine session in this process that wants to know everything."""
    log = EngineLog(tmp_path / "engine.log")
    send_log_to(log.receive)
    inbox = Inbox(lambda _error: None)
    path = str(synthetic("huge_bias_qwen2", seed=21))
    plan = judge(Load(1, path, 1024, n_threads=1, measure_loss=True), Process(), prepare(log))
    session = open_session(plan, inbox, log, lambda _event: None, lambda: None, lambda _fraction: True)
    session.own.repeat()
    yield session
    session.close()


def step(session: Session) -> bool:
    return session.own.step(session.cache.settings)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_whatever_arrives_interrupts(command: Command) -> None:
    inbox, asked = Inbox(lambda _error: None), list[Ask]()
    assert inbox.calm(asked.append)
    assert not inbox.arrival
    inbox.put(command)
    assert inbox.arrival
    assert not asked
    assert inbox.wait(0) is not inbox.calm(asked.append)  # a stop leaves nothing to do


def test_figures_are_given_without_an_interruption() -> None:
    """At once while something goes on for want of a command, else in the order of arrival."""
    inbox, asked = Inbox(lambda _error: None), list[Ask]()
    assert inbox.calm(asked.append)
    inbox.put(Ask(1))
    assert asked == [Ask(1)] and not inbox.arrival and not inbox.wait(0)
    inbox.put(CountTokens(2))
    inbox.put(Ask(3))
    assert asked == [Ask(1)]
    assert [inbox.next(), inbox.next()] == [CountTokens(2), Ask(3)]
    assert inbox.calm(asked.append)
    inbox.engaged()
    inbox.put(Ask(4))
    assert asked == [Ask(1)] and inbox.next() == Ask(4)


def test_its_memory_is_counted_while_it_is_taken(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.engine.budget.whole_budget", lambda *_arguments: 1 << 40)
    budget = session.budget
    assert budget.total() == 1 << 40
    step(session)
    assert budget.total() < 1 << 40
    session.own.release()
    assert budget.beside == 0
    while not step(session):
        pass
    assert budget.losses is not None and budget.losses.store.floor > 0
    session.own.close()
    assert budget.beside == 0


def test_nothing_is_begun_while_memory_is_short(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.budget, "free", lambda _present: 0)
    assert not step(session)
    assert session.budget.beside == 0
    pause = session.own.pause(session.cache.settings)
    assert pause is not None and pause > RETRY_SECONDS / 2


def test_a_setting_that_cannot_be_read_is_left_out(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are measured, and it is not tried again."""
    decode = Subject.decode

    def failing(subject: Subject, *arguments: object) -> int:
        if subject.context.type_k == subject.context.type_v == 8:  # q8_0
            raise EngineError("no")
        return decode(subject, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Subject, "decode", failing)
    while session.own.pause(session.cache.settings) is not None:
        step(session)
    losses = session.budget.losses
    assert losses is not None
    assert not losses.of(parse_setting("q8_0").pair, 0).measured
    assert losses.of(parse_setting("tq3").pair, 256).measured


def test_a_model_that_cannot_be_read_is_not_measured(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Subject, "decode", lambda *_arguments: -1)
    step(session)
    assert session.own.pause(session.cache.settings) is None
    assert session.budget.beside == 0


def test_what_somebody_looks_at_is_measured_too(session: Session) -> None:
    wanted = parse_setting("q4_0")
    session.own.want(wanted)
    while session.own.pause(session.cache.settings) is not None:
        step(session)
    losses = session.budget.losses
    assert losses is not None and losses.of(wanted.pair, 0).measured
