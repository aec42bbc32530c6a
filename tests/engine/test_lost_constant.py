"""A cache whose K cannot be made whole any more is read again from its text; no reply is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from app.engine.budget import Process
from app.engine.conversation import READ_AGAIN
from app.engine.inbox import Inbox
from app.engine.log import EngineLog
from app.engine.native import Native
from app.engine.protocol import Finished, Load, Sampling
from app.engine.session import Session, judge, open_session
from quantize.errors import EngineError
from quantize.llama import Context, send_log_to
from quantize.native import attention, register_types
from quantize.state import read_state
from tests.engine.harness import FILLER, user

TURNS = user(FILLER * 8)
GREEDY = Sampling(temperature=0.0, max_tokens=40)

pytestmark = pytest.mark.skipif(not attention.enable().ok, reason="there is no native library")


@pytest.fixture
def session(synthetic: Callable[..., Path], tmp_path: Path) -> Iterator[Session]:
    """A model whose K has a huge constant, in 8 bits and without a window."""
    log = EngineLog(tmp_path / "engine.log")
    send_log_to(log.receive)
    assert register_types().ok
    plan = judge(
        Load(1, str(synthetic("huge_bias_qwen2")), 1024, "q8_0", "q8_0", n_threads=1, tail=0),
        Process(),
        Native("", ""),
    )
    opened = open_session(
        plan, Inbox(lambda _e: None), log, lambda _e: None, lambda: None, lambda _fraction: True
    )
    assert opened.cache.context.centring is not None
    yield opened
    opened.close()


def reply(session: Session) -> Finished:
    return session.conversation.reply(2, session.loaded.prompts.make(TURNS), GREEDY, ())


def lose(context: Context) -> None:
    """Let nobody know where the first row stands, as after a state whose rows are not found."""
    data = np.empty(context.state_size(), np.uint8)
    assert context.save_state(data) == data.size
    assert context.load_state(data)
    other = data.copy()
    other[read_state(data).parts[0].k[0].offset] ^= 0xFF
    assert context._centred is not None
    assert context._centred.loaded(read_state(other), 0)


def lose_at(session: Session, monkeypatch: pytest.MonkeyPatch, *calls: int) -> None:
    """Just before these batches or tokens are computed."""
    watch, n = session.threads.watch, 0

    def counted(context: Context) -> None:
        nonlocal n
        n += 1
        if n in calls:
            lose(context)
        watch(context)

    monkeypatch.setattr(session.threads, "watch", counted)


def test_lost_before_a_reply(session: Session) -> None:
    """The regeneration says the same as before, and a sentence."""
    first = reply(session)
    assert first.notes == ()
    lose(session.cache.context)
    again = reply(session)
    assert again.text == first.text
    assert again.notes == (READ_AGAIN,)
    assert again.n_cached == 0
    assert reply(session).notes == ()


def test_lost_while_writing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply goes on where it was."""
    first = reply(session)
    session.conversation.forget()
    lose_at(session, monkeypatch, 20)
    again = reply(session)
    assert again.notes == (READ_AGAIN,)
    assert again.reason == first.reason and again.n_generated == first.n_generated
    assert again.text[:20] == first.text[:20]
    assert session.cache.context.last_position() == len(session.conversation.tokens) - 1


def test_lost_again_and_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up, with an empty cache; the next message works."""
    first = reply(session)
    session.conversation.forget()
    lose_at(session, monkeypatch, 5, 10, 15)
    with pytest.raises(EngineError, match="could not be read any more"):
        reply(session)
    assert session.conversation.tokens == []
    monkeypatch.undo()
    assert reply(session).text == first.text


def test_lost_without_room_for_the_whole(session: Session) -> None:
    """What was pruned away does not come back into a cache that is too short."""
    reply(session)
    conversation = session.conversation
    lose(session.cache.context)
    tokens = conversation.tokens * 8
    with pytest.raises(EngineError, match="does not fit"):
        conversation.read(3, [*conversation.tokens, *tokens][: session.cache.context.n_ctx + 1], 0)
    assert conversation.tokens == []
