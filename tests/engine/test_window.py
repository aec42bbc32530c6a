"""The newest tokens stay exact while the cache below them is compressed: ``/tail``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.engine.budget import Process
from app.engine.inbox import Inbox
from app.engine.log import EngineLog
from app.engine.native import Native
from app.engine.prompt import Prompt
from app.engine.protocol import (
    KEEP_TAIL,
    Ask,
    CacheChanged,
    CachePreview,
    Failed,
    Load,
    Loaded,
    PruneCache,
    Sampling,
    SetCache,
    Status,
    UndoCache,
)
from app.engine.session import Session, judge, open_session
from quantize.cache_types import AUTO_TAIL, SINKS
from quantize.llama import send_log_to
from quantize.native import attention, register_types
from tests.engine.harness import FILLER, Harness, user

Synthetic = Callable[..., Path]

TURNS = user(FILLER * 12)
LONG = Sampling(temperature=0.0, max_tokens=60)
READ = Sampling(temperature=0.0, max_tokens=0)


def with_kernel(start: Callable[[], Harness], kernel: str) -> Harness:
    """An engine whose process uses this attention kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRETCH_KERNEL", kernel)
        return start()


@pytest.fixture(scope="module")
def own(start_engine: Callable[[], Harness]) -> Iterator[Harness]:
    """An engine with Stretch's own attention kernel."""
    harness = with_kernel(start_engine, "own")
    yield harness
    harness.client.close()


@pytest.fixture
def tiny(own: Harness, synthetic: Synthetic) -> Harness:
    """It has read a text with a small model (f16, 1,024 tokens)."""
    own.load(synthetic("llama"), 1024)
    own.generate(TURNS, READ)
    return own


def status(engine: Harness) -> Status:
    return engine.ask(Ask(engine.next_id()), Status)


def undo(engine: Harness) -> CacheChanged:
    return engine.ask(UndoCache(engine.next_id()), CacheChanged)


def test_small_types_have_a_window_unless_it_is_said_otherwise(tiny: Harness) -> None:
    seen = []
    for types in (("tq3", "tq3"), ("q8_0", "q8_0"), ("q8_0", "tq3"), ("q4_0", "q4_0"), ("f16", "f16")):
        changed = tiny.set_cache(*types)
        seen.append((changed.tail, changed.tail_wish))
    assert seen == [(256, AUTO_TAIL), (0, AUTO_TAIL), (256, AUTO_TAIL), (256, AUTO_TAIL), (0, AUTO_TAIL)]
    assert tiny.set_cache("tq2", "tq2", tail=0).tail == 0
    assert (tiny.set_cache("tq4", "tq4").tail, tiny.set_cache(tail=AUTO_TAIL).tail) == (0, 256)
    assert tiny.set_cache(tail=48).tail == 48
    assert (tiny.set_cache("f16", "f16").tail, tiny.set_cache("tq3", "tq3").tail) == (0, 48)
    assert tiny.set_cache(tail=1 << 20).tail == 1024, "no window is longer than the context"


def test_its_bytes_are_counted_before_and_measured_after(tiny: Harness) -> None:
    bare = tiny.set_cache("tq3", "tq3", tail=0)
    preview = tiny.ask(SetCache(tiny.next_id(), tail=128, preview=True), CachePreview)
    changed = tiny.set_cache(tail=128)
    now = status(tiny)
    assert bare.bytes_after < changed.bytes_after == preview.bytes_after
    assert changed.bytes_after == now.memory.kv_measured == now.memory.kv_predicted
    tiny.generate(TURNS, LONG)
    assert status(tiny).memory.kv_measured == changed.bytes_after
    rows = {(r.type_k, r.type_v): r for r in now.rows}
    assert rows["tq3", "tq3"].kv_bytes == changed.bytes_after
    assert {r.tail for r in now.rows} == {0, 128} and rows["f16", "f16"].tail == 0


@pytest.mark.parametrize("name", ("tq2", "q4_0"))
def test_after_a_switch_the_newest_tokens_are_what_the_old_cache_had(tiny: Harness, name: str) -> None:
    """A window over all that was read: the reply is the one of f16, and another without the window."""
    expected = tiny.generate(TURNS, LONG).text
    changed = tiny.set_cache(name, name, tail=1024)
    assert f"The newest {status(tiny).n_used} tokens stay exact." in changed.sentence
    assert tiny.generate(TURNS, LONG).text == expected
    tiny.set_cache(tail=0)
    assert tiny.generate(TURNS, LONG).text != expected
    # The f16 cache that an undo would bring back has the exact rows still.
    changed = tiny.set_cache(tail=1024)
    assert "Of the newest" in changed.sentence or "stay exact" in changed.sentence
    tiny.generate(TURNS, READ)
    assert undo(tiny).tail == 0


def test_the_window_comes_back_with_an_undo(tiny: Harness) -> None:
    tiny.set_cache("tq2", "tq2", tail=1024)
    expected = tiny.generate(TURNS, LONG).text
    tiny.set_cache("q4_0", "q4_0", tail=0)
    tiny.generate(TURNS, READ)
    undone = undo(tiny)
    assert (undone.type_k, undone.tail, undone.tail_wish) == ("tq2", 1024, 1024)
    assert "stay exact" in undone.sentence
    assert tiny.generate(TURNS, LONG).text == expected


def test_the_window_goes_along_to_a_finer_cache(tiny: Harness) -> None:
    """tq2 with everything in the window, then f16: nothing was lost on the way."""
    expected = tiny.generate(TURNS, LONG).text
    tiny.ask(Load(tiny.next_id(), status_path(tiny), 1024, "tq2", "tq2", 1024, n_threads=1), Loaded)
    tiny.generate(TURNS, READ)
    tiny.set_cache("f16", "f16")
    assert tiny.generate(TURNS, LONG).text == expected


@pytest.mark.parametrize("whole", (False, True))
def test_the_window_goes_along_through_a_prune_and_back(tiny: Harness, whole: bool) -> None:
    """tq2 with everything in the window says after a prune and after its undo what f16 says."""
    prune = {"keep": 0.5, "policy": "streaming", "whole": whole}
    first = tiny.generate(TURNS, LONG).text
    tiny.generate(TURNS, READ)  # without the reply
    tiny.ask(PruneCache(tiny.next_id(), TURNS, **prune), CacheChanged)  # type: ignore[arg-type]
    expected = tiny.generate(TURNS, LONG).text
    undo(tiny)
    tiny.generate(TURNS, READ)
    tiny.set_cache("tq2", "tq2", tail=1024)
    tiny.ask(PruneCache(tiny.next_id(), TURNS, **prune), CacheChanged)  # type: ignore[arg-type]
    assert tiny.generate(TURNS, LONG).text == expected
    undo(tiny)
    assert status(tiny).n_gone == 0
    assert tiny.generate(TURNS, LONG).text == first
    tiny.generate(TURNS, READ)
    tiny.ask(PruneCache(tiny.next_id(), TURNS, **prune), CacheChanged)  # type: ignore[arg-type]
    tiny.set_cache(tail=0)
    assert tiny.generate(TURNS, LONG).text != expected


def status_path(engine: Harness) -> str:
    """The model of the newest load."""
    return next(e.model.path for e in reversed(engine.events) if isinstance(e, Loaded))


def test_a_model_with_a_sliding_window(own: Harness, synthetic: Synthetic) -> None:
    """Its cache goes round, so that cells are in another order than tokens."""
    own.load(synthetic("gemma3", n_swa=128), 2048)
    turns = user(FILLER * 40)
    own.generate(turns, READ)
    expected = own.generate(turns, LONG).text
    changed = own.set_cache("tq2", "tq2", tail=2048)
    assert changed.tail == 2048 and changed.bytes_after == status(own).memory.kv_predicted
    assert own.generate(turns, LONG).text == expected


def test_without_the_kernel_the_reason_is_said(
    start_engine: Callable[[], Harness], synthetic: Synthetic
) -> None:
    stock = with_kernel(start_engine, "stock")
    command = Load(stock.next_id(), str(synthetic("llama")), 1024, "tq3", "tq3", 256, n_threads=1)
    loaded = stock.ask(command, Loaded)
    assert (loaded.tail, loaded.tail_wish) == (0, 256)
    (note,) = loaded.model.notes
    assert "attention kernel" in note and "STRETCH_KERNEL" in note
    assert {r.tail for r in status(stock).rows} == {0}
    failed = stock.ask(SetCache(stock.next_id(), tail=64), Failed)
    assert failed.kind == "CacheTypeError" and failed.message == note and "/tail off" in failed.hint
    assert stock.set_cache("tq2", "tq2").tail == 0  # it was not the window that was asked for
    assert stock.set_cache(tail=AUTO_TAIL).tail_wish == AUTO_TAIL
    assert stock.load(synthetic("llama"), 1024, ("tq3", "tq3")).model.notes == ()
    stock.client.close()


def test_a_model_whose_attention_the_kernel_does_not_take(own: Harness, synthetic: Synthetic) -> None:
    own.load(synthetic("deepseek2"), 1024)
    changed = own.set_cache("q4_0", "q4_0")
    if changed.tail == 0:
        failed = own.ask(SetCache(own.next_id(), tail=64), Failed)
        assert "llama.cpp computes its attention" in failed.message
    assert own.generate(TURNS, LONG).n_generated > 0


def test_a_wish_is_kept_for_other_types(tiny: Harness) -> None:
    changed = tiny.set_cache(tail=96)
    assert (changed.tail, changed.tail_wish) == (0, 96)
    assert "f16 keeps every token exactly" in changed.sentence and not changed.can_undo
    assert tiny.set_cache("tq4", "tq4").tail == 96
    assert tiny.set_cache(tail=KEEP_TAIL).sentence == "The cache is already so."


@pytest.fixture
def session(synthetic: Synthetic, tmp_path: Path) -> Iterator[Session]:
    """A session in this process: tq2 with the newest 64 tokens exact."""
    log = EngineLog(tmp_path / "engine.log")
    send_log_to(log.receive)
    native = Native(register_types().reason, attention.enable().reason)
    assert native.types and native.kernel
    attention.use("own")
    load = Load(1, str(synthetic("llama")), 2048, "tq2", "tq2", 64, n_threads=1)
    inbox = Inbox(lambda _error: None)
    plan = judge(load, Process(), native)
    opened = open_session(plan, inbox, log, lambda _e: None, lambda: None, lambda _f: True)
    yield opened
    opened.close()


def test_going_back_brings_the_window_of_then(session: Session) -> None:
    """A reply displaces what was in the window before it; writing it again, or saying the message before
    it differently, finds the tokens before it exact as they were."""
    conversation, tail = session.conversation, session.cache.tail
    assert tail is not None
    n_embd = 128

    def say(n_prompt: int) -> int:
        """A message of so many tokens and a reply of 100; the tokens before the reply."""
        wanted = [*conversation.tokens, *np.random.default_rng(n_prompt).integers(5, 250, n_prompt).tolist()]
        conversation.reply(2, Prompt(wanted, ""), Sampling(temperature=0.0, max_tokens=100), ())
        return len(wanted)

    def window() -> tuple[list[int], list[NDArray[np.float16]]]:
        read = [tail.read(layer, side, n_embd) for layer in range(2) for side in "kv"]
        assert all(np.array_equal(cells, read[0][0]) for cells, _ in read)
        return read[0][0].tolist(), [values for _, values in read]

    say(200)
    n_end = conversation.n_used
    assert window()[0] == [*range(SINKS), *range(n_end - 64, n_end)]
    n_second = say(120)
    assert n_second + 64 < conversation.n_used, "the reply is as long as the window"
    assert conversation.keep(n_second)[0] == n_second  # the last reply is to be written again
    assert window()[0] == [*range(SINKS), *range(n_second - 64, n_second)]
    at_second = window()
    assert conversation.read(3, [*conversation.tokens, *range(5, 155)], 0)
    assert conversation.keep(n_second)[0] == n_second
    for now, then in zip(window()[1], at_second[1], strict=True):
        assert np.array_equal(now, then)
    assert conversation.keep(n_end)[0] == n_end  # the last message is to be said differently
    assert window()[0] == [*range(SINKS), *range(n_end - 64, n_end)]
    conversation.forget()
    assert conversation.read(4, list(range(5, 205)), 0)
    assert conversation.keep(100)[0] == 100
    assert min(window()[0][SINKS:], default=136) >= 136, "no mark of the conversation before"
