"""A change that fails at any step leaves a cache that the conversation goes on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.engine import mover
from app.engine.budget import Process
from app.engine.inbox import Inbox
from app.engine.log import EngineLog
from app.engine.needs import Needs
from app.engine.protocol import Load, Park, PruneCache, Sampling, SetCache
from app.engine.session import Session, judge, open_session
from app.engine.switch import Switcher
from quantize.errors import EngineError, OutOfMemoryError, StateError, StretchError
from quantize.llama import Context, send_log_to
from tests.engine.harness import FILLER, user

TURNS = user(FILLER * 10)
LONG = Sampling(temperature=0.0, max_tokens=60)
CHANGE = SetCache(9, "q8_0", "q8_0", 2048)


@pytest.fixture
def session(synthetic: Callable[..., Path], tmp_path: Path) -> Iterator[Session]:
    """A real engine session in this process, with a text in its cache."""
    log = EngineLog(tmp_path / "engine.log")
    send_log_to(log.receive)
    inbox = Inbox(lambda _error: None)
    plan = judge(Load(1, str(synthetic("llama")), 1024, n_threads=1), Process())
    session = open_session(plan, inbox, log, lambda _event: None, lambda: None, lambda _fraction: True)
    reply(session)
    yield session
    session.close()


def reply(session: Session) -> str:
    """The reply to the text, from the cache as far as it goes."""
    prompt = session.loaded.prompts.make(TURNS)
    return session.conversation.reply(2, prompt, LONG, ()).text


def failing(error: StretchError) -> Callable[..., Any]:
    def fail(*_arguments: object, **_options: object) -> Any:
        raise error

    return fail


def no_room_for_both(switcher: Switcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the state go through a file."""
    needs = switcher.needs

    def tight(wanted: Any, *, reprefill: bool) -> Needs:
        return replace(needs(wanted, reprefill=reprefill), through_file=True, fits=True)

    monkeypatch.setattr(switcher, "needs", tight)


@pytest.mark.parametrize("through_file", [False, True])
@pytest.mark.parametrize(
    "step", ["no room for the state", "transcoding", "making the context", "loading the state"]
)
def test_a_failure_leaves_the_cache_as_it_was(
    session: Session, monkeypatch: pytest.MonkeyPatch, step: str, through_file: bool
) -> None:
    expected = reply(session)
    switcher, conversation = session.switcher, session.conversation
    n_used = conversation.n_used
    if through_file:
        no_room_for_both(switcher, monkeypatch)
    with monkeypatch.context() as fault:
        match step:
            case "no room for the state":
                fault.setattr(mover.states, "in_file", failing(OutOfMemoryError("The disk is full.")))
            case "transcoding":
                fault.setattr(mover, "transcode", failing(StateError("The state is damaged.")))
            case "making the context":
                make = switcher._maker.open

                def refuse_new(settings: Any) -> Any:
                    if settings.type_k == "q8_0":
                        raise EngineError("llama.cpp could not create a context.")
                    return make(settings)

                fault.setattr(switcher._maker, "open", refuse_new)
            case _:
                types = switcher._maker.type_ids
                calls = iter(range(100))

                def confuse(settings: Any) -> tuple[int, int]:
                    k, v = types(settings)
                    # Transcode to f16 what a context of q8_0 is then given.
                    return (1, 1) if settings.type_k == "q8_0" and next(calls) == 1 else (k, v)

                fault.setattr(switcher._maker, "type_ids", confuse)
        with pytest.raises(StretchError):
            switcher.change(CHANGE)
    assert switcher.cache.settings.label == "f16" and switcher.cache.settings.n_ctx == 1024
    assert conversation.n_used == n_used == conversation.context.last_position() + 1
    assert len(switcher.history) == 0 and not switcher.active
    assert reply(session) == expected
    assert switcher.change(CHANGE).type_k == "q8_0"  # and the next one succeeds


@pytest.mark.parametrize("job", ["change", "prune", "park"])
def test_a_state_that_llama_cpp_does_not_write_is_an_error_of_the_engine(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, job: str
) -> None:
    expected = reply(session)
    size_of = Context.state_size

    def too_small(context: Context, seq: int = 0, *, partial: bool = False) -> int:
        return size_of(context, seq, partial=partial) - 8

    with monkeypatch.context() as fault:
        fault.setattr(Context, "state_size", too_small)
        with pytest.raises(EngineError, match="could not save the state"):
            match job:
                case "change":
                    session.switcher.change(CHANGE)
                case "prune":
                    session.pruner.prune(PruneCache(9, TURNS, policy="lagkv"))
                case _:
                    session.parking.park(Park(9, str(tmp_path / "1.park"), 1), session.cache)
    assert reply(session) == expected


def test_when_even_the_way_back_fails_the_conversation_is_read_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    switcher, conversation = session.switcher, session.conversation
    no_room_for_both(switcher, monkeypatch)
    with monkeypatch.context() as fault:
        fault.setattr(switcher._mover, "_open_with", failing(EngineError("llama.cpp refused the state.")))
        with pytest.raises(EngineError):
            switcher.change(CHANGE)
    assert conversation.n_used == 0 and conversation.context.last_position() == -1
    assert reply(session)


def test_a_reprefill_that_fails_leaves_the_old_cache(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = reply(session)
    n_used = session.conversation.n_used
    with monkeypatch.context() as fault:
        fault.setattr(session.conversation, "read", failing(EngineError("llama.cpp could not read.")))
        with pytest.raises(EngineError):
            session.switcher.change(SetCache(9, "q8_0", "q8_0", reprefill=True))
    assert session.conversation.n_used == n_used
    assert reply(session) == expected


def test_an_interrupted_decode_keeps_count_of_the_cache(session: Session) -> None:
    """The stop flag is up before the first node: nothing of the batch is taken, and it is known."""
    conversation, inbox = session.conversation, session.conversation._inbox
    conversation.forget()
    tokens = session.loaded.prompts.make(TURNS).tokens
    assert conversation.read(3, tokens[:20], 0)
    inbox.stop_flag.set()
    assert conversation.context.decode(tokens[20:40], 20) == 2
    inbox.stop_flag.clear()
    conversation._synchronize(tokens[20:40])
    assert conversation.n_used == 20 == conversation.context.last_position() + 1
    assert conversation.read(3, tokens, 20)
    assert conversation.tokens == tokens
