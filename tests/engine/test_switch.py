"""Changing the cache while the conversation stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.engine.protocol import (
    Ask,
    CacheChanged,
    CachePreview,
    Command,
    Failed,
    Finished,
    Forget,
    Generate,
    Sampling,
    SetCache,
    Status,
    Stop,
    TextChunk,
    Turn,
    UndoCache,
)
from tests.engine.harness import FILLER, Harness, user

Synthetic = Callable[..., Path]

LONG = Sampling(temperature=0.0, max_tokens=120)
TURNS = user(FILLER * 12)


def status(engine: Harness) -> Status:
    return engine.ask(Ask(engine.next_id()), Status)


def refused(engine: Harness, command: Command) -> Failed:
    """Send a command that must fail."""
    engine.send(command)
    failed = engine.until(Failed)
    assert failed.id == command.id
    return failed


@pytest.fixture
def tiny(engine: Harness, synthetic: Synthetic) -> Harness:
    """The engine with a small model (f16, 1,024 tokens) that has read a text."""
    engine.load(synthetic("llama"), 1024)
    engine.generate(TURNS, Sampling(temperature=0, max_tokens=0))
    return engine


def test_the_conversation_stays(tiny: Harness) -> None:
    before = status(tiny)
    changed = tiny.set_cache("q8_0", "q4_0", tail=0)
    assert (changed.type_k, changed.type_v, changed.n_ctx) == ("q8_0", "q4_0", 1024)
    assert changed.bytes_before == before.memory.kv_measured == before.memory.kv_predicted
    after = status(tiny)
    assert changed.bytes_after == after.memory.kv_measured == after.memory.kv_predicted
    assert changed.bytes_after * 16 == changed.bytes_before * (8.5 + 4.5) / 2
    assert not changed.reprefilled and changed.can_undo and after.can_undo
    assert after.n_used == before.n_used
    again = tiny.generate(TURNS)
    assert again.n_cached == again.n_prompt - 1


def test_another_length_changes_no_token(tiny: Harness) -> None:
    expected = tiny.generate(TURNS, LONG).text
    for n_ctx in (2048, 512, 768):
        changed = tiny.set_cache(n_ctx=n_ctx)
        assert (changed.n_ctx, changed.reprefilled) == (n_ctx, False)
        assert tiny.generate(TURNS, LONG).text == expected


def test_a_reply_goes_on_over_a_change(tiny: Harness) -> None:
    """f16 to f16 of another length: not a single character of the reply may differ."""
    for sampling in (LONG, Sampling(temperature=1.2, seed=5, max_tokens=120)):
        expected = tiny.generate(TURNS, sampling)
        command = Generate(tiny.next_id(), TURNS, sampling)
        tiny.send(command)
        tiny.until(TextChunk, id=command.id)
        change = SetCache(tiny.next_id(), n_ctx=3072 - status_n_ctx(tiny))
        tiny.send(change)
        seen = tiny.until(CacheChanged, Finished)
        if isinstance(seen, CacheChanged):
            finished = tiny.until(Finished, id=command.id)
        else:  # it was written before the change could be read
            finished, _ = seen, tiny.until(CacheChanged, id=change.id)
        assert finished.text == expected.text == tiny.chunks(command.id)


def status_n_ctx(engine: Harness) -> int:
    """Length of the context in the newest figures."""
    return next(e.n_ctx for e in reversed(engine.events) if isinstance(e, Status))


def test_a_change_while_reading_loses_nothing(tiny: Harness) -> None:
    tiny.set_cache(n_ctx=4096)
    turns = user(FILLER * 100)
    expected = tiny.generate(turns, LONG).text
    tiny.ask(Forget(tiny.next_id()), Status)
    command = Generate(tiny.next_id(), turns, LONG)
    tiny.send(command)
    change = SetCache(tiny.next_id(), n_ctx=3072)
    tiny.send(change)
    short = SetCache(tiny.next_id(), n_ctx=256)  # less than what is being read
    tiny.send(short)
    assert tiny.until(CacheChanged, id=change.id).n_ctx == 3072
    assert tiny.until(Failed, id=short.id).kind == "ContextFullError"
    assert tiny.until(Finished, id=command.id).text == expected


def test_an_undo_is_exact(tiny: Harness) -> None:
    expected = tiny.generate(TURNS, LONG).text
    tiny.set_cache("q4_0", "q4_0")
    assert tiny.generate(TURNS, LONG).text != expected, "q4_0 should differ for this test to mean something"
    undone = tiny.ask(UndoCache(tiny.next_id()), CacheChanged)
    assert (undone.type_k, undone.type_v, undone.can_undo) == ("f16", "f16", False)
    assert "exactly as they were" in undone.sentence
    assert tiny.generate(TURNS, LONG).text == expected


def test_an_undo_says_what_cannot_come_back(tiny: Harness) -> None:
    tiny.set_cache("q4_0", "q4_0")
    said = tiny.generate(TURNS, LONG)
    tiny.generate((*TURNS, Turn("assistant", said.text), Turn("user", FILLER)))
    n_used = status(tiny).n_used
    undone = tiny.ask(UndoCache(tiny.next_id()), CacheChanged)
    assert "/reprefill" in undone.sentence and f"{said.n_prompt:,}" in undone.sentence
    assert status(tiny).n_used == n_used


def test_changes_are_undone_one_after_the_other(tiny: Harness) -> None:
    for types in (("q8_0", "q8_0"), ("q5_0", "q4_0"), ("q4_0", "q4_0")):
        tiny.set_cache(*types)
    for types in (("q5_0", "q4_0"), ("q8_0", "q8_0"), ("f16", "f16")):
        undone = tiny.ask(UndoCache(tiny.next_id()), CacheChanged)
        assert (undone.type_k, undone.type_v) == types
    assert not status(tiny).can_undo
    assert "no change" in refused(tiny, UndoCache(tiny.next_id())).message


def test_going_up_again_takes_the_exact_rows_that_were_kept(tiny: Harness) -> None:
    expected = tiny.generate(TURNS, LONG).text
    tiny.set_cache("q4_0", "q4_0")
    up = tiny.set_cache("f16", "f16")
    assert "exactly as they were" in up.sentence
    assert tiny.generate(TURNS, LONG).text == expected


def test_going_up_without_them_says_so_and_a_reprefill_is_exact(
    engine: Harness, synthetic: Synthetic
) -> None:
    engine.load(synthetic("llama"), 1024)
    engine.generate(TURNS, LONG)
    expected = engine.ask(Forget(engine.next_id()), Status) and engine.generate(TURNS, LONG).text
    engine.load(synthetic("llama"), 1024, ("q4_0", "q4_0"))
    engine.generate(TURNS, Sampling(temperature=0, max_tokens=0))
    up = engine.set_cache("f16", "f16")
    assert "does not come back" in up.sentence and "/reprefill" in up.sentence
    assert engine.generate(TURNS, LONG).text != expected
    exact = engine.set_cache(reprefill=True)
    assert exact.reprefilled and "read again" in exact.sentence
    engine.generate(TURNS, Sampling(temperature=0, max_tokens=0))
    assert engine.generate(TURNS, LONG).text == expected


def test_a_preview_changes_nothing(tiny: Harness) -> None:
    before = status(tiny)
    command = SetCache(tiny.next_id(), "q8_0", "q8_0", preview=True)
    preview = tiny.ask(command, CachePreview)
    assert preview.fits and not preview.through_file and not preview.reprefill
    assert preview.bytes_before == before.memory.kv_measured
    assert preview.peak_bytes >= preview.bytes_after
    assert "frees" in preview.sentence and preview.reach == before.rows[1].max_ctx
    after = status(tiny)
    assert (after.type_k, after.n_used, after.can_undo) == ("f16", before.n_used, False)
    changed = tiny.set_cache("q8_0", "q8_0")
    assert changed.bytes_after == preview.bytes_after


def test_what_cannot_be_is_refused_with_a_reason(tiny: Harness) -> None:
    n_used = status(tiny).n_used
    for command, kind, word in (
        (SetCache(tiny.next_id(), "q9_9", "q8_0"), "CacheTypeError", "q9_9"),
        (SetCache(tiny.next_id(), "q1_0", "q1_0"), "CacheTypeError", "64"),
        (SetCache(tiny.next_id(), n_ctx=50_000), "CacheTypeError", "trained"),
        (SetCache(tiny.next_id(), n_ctx=1), "ContextFullError", f"{n_used:,}"),
    ):
        failed = refused(tiny, command)
        assert failed.kind == kind and word in failed.message
        assert failed.hint
    assert status(tiny).n_used == n_used
    assert tiny.generate(TURNS).n_cached == n_used - 1


def test_the_same_setting_is_no_change(tiny: Harness) -> None:
    same = tiny.set_cache("f16", "f16", 1000)  # rounded up to what it is
    assert (same.bytes_before, same.seconds, same.can_undo) == (same.bytes_after, 0.0, False)


def test_forgetting_keeps_the_setting(tiny: Harness) -> None:
    tiny.set_cache("q8_0", "q8_0")
    assert tiny.ask(Forget(tiny.next_id()), Status).n_used == 0
    assert status(tiny).type_k == "q8_0"
    undone = tiny.ask(UndoCache(tiny.next_id()), CacheChanged)  # nothing to restore but the types
    assert undone.type_k == "f16" and tiny.generate(TURNS).n_cached == 0


def test_a_stop_while_reading_again_leaves_the_old_cache(tiny: Harness) -> None:
    n_used = status(tiny).n_used
    command = SetCache(tiny.next_id(), "q8_0", "q8_0", reprefill=True)
    stop = Stop(tiny.next_id())
    tiny.client.send(command)
    tiny.client.send(stop)
    event = tiny.until(Failed, CacheChanged)
    if isinstance(event, Failed):  # unless it was faster
        assert "as it was" in event.message
        assert (status(tiny).type_k, status(tiny).n_used) == ("f16", n_used)
        assert tiny.generate(TURNS).n_cached == n_used - 1


def test_without_a_disk_a_change_still_works(
    start_engine: Callable[[], Harness], synthetic: Synthetic, home: Path
) -> None:
    states = home / "cache" / "states"
    if states.exists():
        states.rmdir()
    states.parent.mkdir(exist_ok=True)
    states.touch()  # no directory can be made here
    try:
        engine = start_engine()
        engine.load(synthetic("llama"), 1024)
        engine.generate(TURNS, Sampling(temperature=0, max_tokens=0))
        n_used = status(engine).n_used
        engine.set_cache("q8_0", "q8_0")
        assert status(engine).n_used == n_used
        undone = engine.ask(UndoCache(engine.next_id()), CacheChanged)
        assert undone.type_k == "f16" and "/reprefill" in undone.sentence  # nothing exact was kept
        assert engine.generate(TURNS).n_cached == n_used - 1
    finally:
        states.unlink()


MODELS = {
    "llama 64": ("llama", {"head_dim": 64}),
    "llama 128": ("llama", {"head_dim": 128, "n_head_kv": 1}),
    "two windows": ("gemma3", {"n_swa": 64}),
    "half windows": ("gemma2", {"n_swa": 128}),
    "sinks": ("gpt-oss", {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_switches_and_comes_back(
    engine: Harness, synthetic: Synthetic, name: str
) -> None:
    maker, sizes = MODELS[name]
    loaded = engine.load(synthetic(maker, **sizes), 1024)
    assert loaded.model.transcodes, loaded.model.no_transcode_reason
    engine.generate(TURNS, Sampling(temperature=0, max_tokens=0))
    expected = engine.generate(TURNS, LONG)
    engine.generate(TURNS, Sampling(temperature=0, max_tokens=0))
    n_used = status(engine).n_used
    down = engine.set_cache("q8_0", "q8_0", 2048)
    assert not down.reprefilled and status(engine).n_used == n_used
    figures = status(engine).memory
    assert figures.kv_measured == figures.kv_predicted == down.bytes_after
    engine.ask(UndoCache(engine.next_id()), CacheChanged)
    figures = status(engine).memory
    assert figures.kv_measured == figures.kv_predicted
    assert engine.generate(TURNS, LONG).text == expected.text


FALLBACKS = {"mamba": {}, "granitehybrid": {}, "deepseek2": {}, "lfm2": {}}


@pytest.mark.parametrize("name", FALLBACKS)
def test_what_cannot_be_transcoded_is_read_again_and_said(
    engine: Harness, synthetic: Synthetic, name: str
) -> None:
    loaded = engine.load(synthetic(name, **FALLBACKS[name]), 1024)
    assert not loaded.model.transcodes and loaded.model.no_transcode_reason
    first = engine.generate(TURNS, Sampling(temperature=0, max_tokens=4))
    n_used = status(engine).n_used
    preview = engine.ask(SetCache(engine.next_id(), "q8_0", "q8_0", preview=True), CachePreview)
    assert preview.reprefill and "read again" in preview.sentence
    changed = engine.set_cache("q8_0", "q8_0", 2048)
    assert changed.reprefilled and "read again" in changed.sentence
    assert status(engine).n_used == n_used
    figures = status(engine).memory
    assert figures.kv_measured == figures.kv_predicted == changed.bytes_after
    more = engine.generate((*TURNS, Turn("assistant", first.text), Turn("user", "Go on.")))
    assert more.n_generated > 0
