"""The engine is killed at twenty moments: the interface lives, nothing complete is lost, the talk goes on."""

from __future__ import annotations

import random
import signal

import pytest
from textual.message import Message

from app.chat import messages as news
from app.chat.engine_life import MOST_DEATHS
from app.chat.transcript.reply_turn import ReplyTurn
from tests.chat.conftest import LONG, Chat
from tests.chat.watch import Watch

MOMENTS = ("starting", "loading", "reading", "writing", "switching")
N_KILLS = 20
PROMPT = "a prompt that takes a while to read: " + "word " * 500


class Nth:
    """True at the n-th message that is meant, or when a reply is over before that."""

    def __init__(self, kind: type[Message], n: int, phase: str = "") -> None:
        self.kind, self.n, self.phase = kind, n, phase

    def __call__(self, message: Message) -> bool:
        if isinstance(message, self.kind) and (not self.phase or getattr(message, "phase", "") == self.phase):
            self.n -= 1
        return self.n <= 0 or isinstance(message, news.ReplyDone)


async def kill_once(watch: Watch, moment: str, rng: random.Random) -> None:
    """Bring the engine to the moment and kill it there."""
    if moment in ("starting", "loading"):
        kind = Nth(news.PhaseChanged, 1, "restarting" if moment == "starting" else "loading")
        watch.strike_at(kind, signal.SIGKILL)
        watch.strike(signal.SIGKILL)
    elif moment == "switching":
        watch.strike_at(Nth(news.PhaseChanged, 1, "switching"), signal.SIGKILL)
        watch.session.next_preset()
    elif moment == "reading":
        watch.strike_at(Nth(news.ReadingProgress, 1), signal.SIGKILL)
        await watch.say(PROMPT)
    else:
        watch.strike_at(Nth(news.ReplyText, rng.randint(1, 4)), signal.SIGKILL)
        await watch.say("talk")
    await watch.until(lambda: watch.struck)


@pytest.mark.parametrize("seed", [1])
async def test_killed_at_twenty_moments(chat: Chat, seed: int) -> None:
    rng = random.Random(seed)
    moments = list(MOMENTS * (N_KILLS // len(MOMENTS)))
    rng.shuffle(moments)
    async with chat(**{**LONG, "max_tokens": 600}) as watch:
        await watch.ready()
        complete: dict[int, str] = {}
        for number, moment in enumerate(moments):
            await kill_once(watch, moment, rng)
            # The next message is typed while the engine is away.
            await watch.say(f"question {number}")
            await watch.ready()
            messages = watch.session.page.messages
            asked = [m.id for m in messages if m.content == f"question {number}"]
            assert asked, moment
            answers = [m for m in messages if m.role == "assistant" and m.id > asked[0]]
            assert answers and answers[-1].content and answers[-1].state == "complete", moment
            stored = {m.id: m for m in watch.session.store.branch(watch.session.page.id)}
            for id, content in complete.items():
                assert stored[id].content == content, moment
            complete = {id: m.content for id, m in stored.items() if m.state == "complete"}
            watch.session.new_conversation()
            complete.clear()
        assert len(watch.of(news.Notice)) >= N_KILLS
        assert watch.app.is_running


async def test_words_that_were_written_stay_and_can_be_gone_on_with(chat: Chat) -> None:
    async with chat(**LONG) as watch:
        await watch.ready()
        watch.strike_at(Nth(news.ReplyText, 2), signal.SIGKILL)
        await watch.say("talk")
        await watch.until(lambda: watch.of(news.ReplyDone))
        await watch.ready()
        half = watch.session.page.messages[-1]
        assert half.content
        assert half.state == "stopped"
        (notice,) = [n for n in watch.of(news.Notice) if n.kind == "error"]
        assert notice.actions[0].command == "/continue"
        await watch.pilot.press("f6")
        await watch.ready()
        whole = watch.session.page.messages[-1]
        assert whole.id == half.id
        assert whole.content.startswith(half.content)
        assert whole.state == "complete"


async def test_a_question_without_a_word_of_reply_is_asked_again(chat: Chat) -> None:
    async with chat() as watch:
        await watch.ready()
        watch.strike_at(Nth(news.ReadingProgress, 1), signal.SIGKILL)
        await watch.say(PROMPT[:1000])
        await watch.until(lambda: watch.struck)
        await watch.ready()
        assert watch.texts("assistant")[0]
        assert len(watch.app.chat.transcript.query_children(ReplyTurn)) == 1


async def test_an_engine_that_always_dies_is_given_up_and_can_be_started_again(chat: Chat) -> None:
    async with chat() as watch:
        await watch.ready()
        died: set[int] = set()  # a process may report some progress before it is gone

        def again(message: Message) -> bool:
            if isinstance(message, news.PhaseChanged) and message.phase == "loading":
                died.add(watch.session.life.link.pid)
                watch.strike(signal.SIGKILL)
            return False

        watch.strike_at(again, signal.SIGKILL)
        watch.strike(signal.SIGKILL)
        await watch.until(lambda: watch.session.phase == "stopped")
        assert len(died) == MOST_DEATHS - 1
        watch.strike_at(lambda message: False, signal.SIGKILL)
        await watch.say("are you there?")
        await watch.say("/restart")
        await watch.ready()
        assert watch.texts("assistant")[0]
