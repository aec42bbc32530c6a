"""A full context: nothing is cut silently, every way out is real, and a policy can take one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.engine.budget import LIMIT_VARIABLE
from app.engine.dialogue import Dialogue
from app.engine.protocol import (
    Ask,
    CacheChanged,
    ContextFull,
    Finished,
    Generate,
    Load,
    Loaded,
    PruneCache,
    Sampling,
    SetCache,
    Status,
    Turn,
)
from app.engine.unattended import Conversation
from quantize.errors import ContextFullError
from tests.engine.harness import FILLER, GREEDY, Harness, user

Synthetic = Callable[..., Path]


def long_talk(n: int) -> tuple[Turn, ...]:
    """``n`` turns of both sides after a system prompt, and a last question."""
    turns = [Turn("system", "Be brief.")]
    for i in range(n):
        turns += [Turn("user", f"{i}: {FILLER}"), Turn("assistant", "So it is.")]
    return (*turns, Turn("user", "And now?"))


def full(engine: Harness, turns: tuple[Turn, ...]) -> ContextFull:
    return engine.ask(Generate(engine.next_id(), turns, GREEDY), ContextFull)


@pytest.fixture
def small(engine: Harness, synthetic: Synthetic) -> Harness:
    """The engine with a context of 512 tokens of a model that was trained for 4,096."""
    engine.load(synthetic("llama"), 512)
    return engine


def test_every_way_out_leads_out(small: Harness) -> None:
    turns = long_talk(16)
    choice = full(small, turns)
    assert choice.n_needed > choice.n_ctx == 512
    assert choice.options[0].action == "longer"
    assert {o.action for o in choice.options} == {"longer", "smaller", "prune", "drop"}
    for option in choice.options:
        assert option.sentence.endswith(".") and len(option.sentence) > 40
        if option.action == "drop":
            assert option.n_drop % 2 == 0
            left = (turns[0], *turns[1 + option.n_drop :])
            finished = small.generate(left)
            assert finished.n_generated > 0 and finished.n_prompt <= 512
            one_less = (turns[0], *turns[1 + option.n_drop - 2 :])
            assert full(small, one_less).n_needed > 512  # not more is dropped than necessary
        elif option.action == "prune":
            small.ask(PruneCache(small.next_id(), turns, until=option.n_ctx), CacheChanged)
            finished = small.generate(turns)
            assert finished.n_generated > 0 and finished.n_prompt > 512
        else:
            small.set_cache(option.type_k, option.type_v, option.n_ctx)
            assert small.generate(turns).n_generated > 0
            small.generate(user("short"))
            small.set_cache("f16", "f16", 512)


def test_nothing_was_read_or_lost(small: Harness) -> None:
    first = small.generate(user("hello"))
    full(small, long_talk(16))
    assert small.ask(Ask(small.next_id()), Status).n_used >= first.n_prompt
    assert small.generate(user("hello")).n_cached == first.n_prompt - 1


def test_beyond_the_trained_length_only_dropping_is_left(engine: Harness, synthetic: Synthetic) -> None:
    engine.load(synthetic("llama", n_ctx=1024), 1024)
    choice = full(engine, long_talk(40))
    assert {o.action for o in choice.options} == {"drop"}


def test_one_message_that_is_too_long_has_no_way_out_by_dropping(
    engine: Harness, synthetic: Synthetic
) -> None:
    engine.load(synthetic("llama", n_ctx=1024), 1024)
    assert full(engine, user(FILLER * 100)).options == ()


def test_what_memory_does_not_allow_is_not_offered(
    engine: Harness,
    start_engine: Callable[[], Harness],
    synthetic: Synthetic,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = synthetic("llama", head_dim=128, n_head=8, n_head_kv=8)  # 8 KiB per token
    engine.load(path, 1024)
    predicted = engine.ask(Ask(engine.next_id()), Status).memory.predicted_total
    monkeypatch.setenv(LIMIT_VARIABLE, str(predicted + (1 << 20)))
    tight = start_engine()
    tight.load(path, 1024)
    choice = full(tight, long_talk(40))
    actions = [o.action for o in choice.options]
    assert "longer" not in actions and "smaller" in actions and "drop" in actions
    for option in choice.options:
        if option.action == "smaller":
            tight.set_cache(option.type_k, option.type_v, option.n_ctx, tail=option.tail)
            assert tight.generate(long_talk(40)).n_generated > 0
            break
    tight.client.close()


# --------------------------------------------------------------------------- policies


@pytest.fixture
def talk(home: Path, synthetic: Synthetic) -> object:
    """Makes unattended conversations with a context of 512 tokens."""
    dialogue = Dialogue(home / "logs" / "dialogue.log")

    def make(policy: str, **sampling: int | float) -> Conversation:
        dialogue.client.start()
        dialogue.ask(Load(dialogue.next_id(), str(synthetic("llama")), 512, n_threads=1), Loaded)
        return Conversation(
            dialogue, Sampling(**({"temperature": 0.0, "max_tokens": 8} | sampling)), policy, "Be brief."
        )

    yield make
    dialogue.client.close()


Talk = Callable[..., Conversation]


def fill(conversation: Conversation, n: int = 16) -> None:
    conversation.turns += long_talk(n)[1:-1]


def test_the_policy_stop_gives_up_and_says_what_there_is(talk: Talk) -> None:
    conversation = talk("stop")
    fill(conversation)
    before = list(conversation.turns)
    with pytest.raises(ContextFullError) as caught:
        conversation.say("And now?")
    assert "--on-full longer" in caught.value.hint and "--on-full drop" in caught.value.hint
    assert conversation.turns == before


@pytest.mark.parametrize("policy", ["longer", "smaller"])
def test_a_policy_changes_the_cache(talk: Talk, policy: str) -> None:
    conversation = talk(policy)
    changes = []
    conversation.on_change = changes.append
    fill(conversation)
    assert conversation.say("And now?").text
    assert len(changes) == 1 and changes[0].n_ctx > 512
    assert (changes[0].type_k == "f16") == (policy == "longer")
    assert len(conversation.turns) == 34


def test_the_policy_drop_leaves_out_the_oldest(talk: Talk) -> None:
    conversation = talk("drop")
    dropped = []
    conversation.on_drop = dropped.append
    fill(conversation)
    newest = list(conversation.turns[-2:])
    assert conversation.say("And now?").text
    assert sum(dropped) == 34 - len(conversation.turns) > 0
    assert conversation.turns[-4:-2] == newest and conversation.turns[0].role == "user"


def test_a_reply_that_fills_the_context_goes_on_under_a_policy(talk: Talk) -> None:
    hot = {"temperature": 3.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 300}
    for seed in range(50):  # until a reply is long enough
        conversation = talk("longer", seed=seed, **hot)
        changes = []
        conversation.on_change = changes.append
        fill(conversation, 12)
        reply = conversation.say("And now?")
        if changes:
            break
    assert changes and reply.finished.n_prompt + reply.finished.n_generated > 512
    assert reply.finished.reason in ("end", "length")
    assert conversation.turns[-1].content == reply.text
    assert isinstance(reply.finished, Finished)


def test_the_length_can_be_set_by_hand(talk: Talk) -> None:
    conversation = talk("stop")
    fill(conversation)
    conversation.change(SetCache(conversation.dialogue.next_id(), n_ctx=4096))
    assert conversation.say("And now?").text
