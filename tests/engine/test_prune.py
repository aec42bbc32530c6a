"""Pruning in a conversation: what is shown, what is done, and everything that comes after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.engine.dialogue import Dialogue
from app.engine.protocol import (
    Ask,
    CacheChanged,
    Failed,
    Pin,
    PruneCache,
    PrunePreview,
    Status,
    Turn,
    UndoCache,
)
from app.engine.prune_words import POLICIES, parse_prune
from app.engine.unattended import Conversation
from quantize.errors import UsageError
from quantize.prune.policy import DEFAULT, policy
from tests.engine.harness import FILLER, GREEDY, Harness, user

Synthetic = Callable[..., Path]

TALK = (
    Turn("system", "Be brief."),
    Turn("user", "My dog is called Rex. " + FILLER * 8),
    Turn("assistant", "I will remember that."),
    Turn("user", FILLER * 8 + "What is the name of my dog?"),
)


def status(engine: Harness) -> Status:
    return engine.ask(Ask(engine.next_id()), Status)


def prune(engine: Harness, turns: tuple[Turn, ...] = TALK, **more: object) -> CacheChanged:
    return engine.ask(PruneCache(engine.next_id(), turns, **more), CacheChanged)  # type: ignore[arg-type]


def test_shown_then_done_then_undone(chatting: Harness) -> None:
    first = chatting.generate(TALK)
    talk = (*TALK, Turn("assistant", first.text), Turn("user", "And my cat?"))
    whole = chatting.generate(talk)
    n = status(chatting).n_used
    shown = chatting.ask(PruneCache(chatting.next_id(), talk, 0.5, preview=True), PrunePreview)
    assert shown.policy == DEFAULT and shown.n_before == n and abs(shown.n_after - n / 2) <= 1
    assert 0 <= shown.kld < 1 and 0.5 <= shown.top1 <= 1 and shown.n_probe > 20
    assert len(shown.strip) == 160 and 0.45 < sum(shown.strip) / 160 < 0.55
    assert shown.strip[-1] == 1.0 and min(shown.strip) < 0.4
    assert status(chatting).n_used == n  # nothing has happened yet

    done = prune(chatting, talk)
    assert done.can_undo and "Pruned by kvzip" in done.sentence
    after = status(chatting)
    assert (after.n_used, after.n_gone) == (shown.n_after, n - shown.n_after)
    again = chatting.generate(talk)  # regenerated: everything before the reply is still there
    assert again.n_cached > again.n_prompt - 3 and again.notes == ()

    back = chatting.ask(UndoCache(chatting.next_id()), CacheChanged)
    assert "exactly as they were" in back.sentence
    assert status(chatting).n_gone == 0
    once_more = chatting.generate(talk)
    assert once_more.text == whole.text and once_more.n_cached > once_more.n_prompt - 3


def test_undo_after_the_conversation_went_on(chatting: Harness) -> None:
    first = chatting.generate(TALK)
    prune(chatting)
    talk = (*TALK, Turn("assistant", first.text), Turn("user", "Hello again."))
    more = chatting.generate(talk)
    assert more.n_cached > 100
    before = status(chatting)
    chatting.ask(UndoCache(chatting.next_id()), CacheChanged)
    after = status(chatting)
    assert after.n_used == before.n_used + before.n_gone and after.n_gone == 0
    assert chatting.generate(talk).n_cached > 100


def test_an_earlier_message_is_read_again_and_it_is_said(chatting: Harness) -> None:
    chatting.generate(TALK)
    prune(chatting)
    edited = (*TALK[:1], Turn("user", "My dog is called Bello. " + FILLER * 8), *TALK[2:])
    finished = chatting.generate(edited)
    assert finished.n_cached == 0 and any("pruned" in note for note in finished.notes)
    assert status(chatting).n_gone == 0


def test_other_types_after_a_prune(chatting: Harness) -> None:
    chatting.generate(TALK)
    prune(chatting, keep=0.4)
    used = status(chatting)
    changed = chatting.set_cache("q8_0", "q8_0")
    assert not changed.reprefilled
    assert (status(chatting).n_used, status(chatting).n_gone) == (used.n_used, used.n_gone)
    second = prune(chatting, keep=0.7)
    assert status(chatting).n_gone > used.n_gone and second.type_k == "q8_0"
    assert chatting.generate(TALK).n_cached > 100
    for _ in range(3):  # the second prune, the types, the first prune
        chatting.ask(UndoCache(chatting.next_id()), CacheChanged)
    after = status(chatting)
    assert (after.type_k, after.n_gone) == ("f16", 0)
    prune(chatting)
    chatting.set_cache(reprefill=True)
    assert status(chatting).n_gone == 0


def test_what_is_pinned_stays(chatting: Harness) -> None:
    chatting.generate(TALK)
    pins = (Pin(1, "My dog is called Rex."),)
    command = PruneCache(chatting.next_id(), TALK, 0.3, "streaming", pins, preview=True)
    pinned = chatting.ask(command, PrunePreview)
    plain = chatting.ask(PruneCache(chatting.next_id(), TALK, 0.3, "streaming", preview=True), PrunePreview)
    early = slice(0, 30)
    assert sum(pinned.strip[early]) > sum(plain.strip[early]) + 2


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy(chatting: Harness, name: str) -> None:
    chatting.generate(TALK)
    assert f"Pruned by {name}" in prune(chatting, policy=name, whole=name == "knorm").sentence
    assert chatting.generate(TALK).n_generated > 0


@pytest.mark.parametrize(
    ("name", "reason"), (("gemma3", "sliding window"), ("qwen35", "recurrent"), ("deepseek2", "latent"))
)
def test_models_that_cannot(engine: Harness, synthetic: Synthetic, name: str, reason: str) -> None:
    engine.load(synthetic(name), 512)
    engine.generate(user("hello " * 80))
    failed = engine.ask(PruneCache(engine.next_id(), user("hello " * 80)), Failed)
    assert reason in failed.message and "cannot be pruned" in failed.message


def test_too_little_to_prune(chatting: Harness) -> None:
    chatting.generate(user("hi"))
    assert "not enough" in chatting.ask(PruneCache(chatting.next_id()), Failed).message


def test_a_policy_for_the_full_context(home: Path, synthetic: Synthetic) -> None:
    """A conversation that is longer than its context goes on, with something of everything in it."""
    from app.engine.protocol import Load, Loaded

    with Dialogue(home / "full.log") as dialogue:
        dialogue.ask(Load(1 << 20, str(synthetic("llama")), 512, n_threads=1), Loaded)
        said: list[str] = []
        talk = Conversation(
            dialogue, GREEDY, "prune", "Be brief.", on_change=lambda changed: said.append(changed.sentence)
        )
        for i in range(12):
            assert talk.say(f"{i}: {FILLER * 2}").finished.n_generated > 0
        assert said and all("Pruned by" in s for s in said)
        assert talk.stats().n_gone > 0 and talk.stats().n_used <= 512
        assert talk.say(FILLER * 60).finished.n_generated > 0  # longer than the context by itself


def test_the_words_of_the_command() -> None:
    assert parse_prune("") == (0.5, "", False)
    assert parse_prune("25% Expected-Attention whole") == (0.25, "expected_attention", True)
    assert parse_prune(".4") == (0.4, "", False)
    for wrong in ("0%", "200%", "magic", "50"):
        with pytest.raises(UsageError):
            parse_prune(wrong)
    assert set(POLICIES) == set(p.name for p in map(policy, POLICIES)) and POLICIES[0] == DEFAULT
