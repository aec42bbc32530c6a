"""Parking and resuming in the engine, with models that have random weights."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.engine.protocol import (
    Ask,
    CacheChanged,
    Failed,
    Forget,
    Park,
    Parked,
    PruneCache,
    Resume,
    Resumed,
    Sampling,
    Status,
    Turn,
    UndoCache,
)
from tests.engine.harness import FILLER, Harness, user

Synthetic = Callable[..., Path]

NOTHING = Sampling(temperature=0.0, max_tokens=0)
SOME = Sampling(temperature=0.0, max_tokens=12)
TEXT = user(FILLER * 16)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    monkeypatch.setenv("STRETCH_HOME", str(tmp_path / "home"))
    harness = Harness(tmp_path / "log" / "engine.log")
    harness.start()
    yield harness
    harness.client.close()


def n_used(engine: Harness) -> int:
    return engine.ask(Ask(engine.next_id()), Status).n_used


def forget(engine: Harness) -> None:
    engine.ask(Forget(engine.next_id()), Status)


def parked(engine: Harness, path: Path, codec: str = "auto", pins: tuple[str, ...] = ()) -> Parked:
    path.parent.mkdir(parents=True, exist_ok=True)
    return engine.ask(Park(engine.next_id(), str(path), 3, codec, pins=pins), Parked)


def resumed(engine: Harness, path: Path) -> Resumed:
    return engine.ask(Resume(engine.next_id(), str(path)), Resumed)


@pytest.mark.parametrize("model", ["llama", "qwen3", "gemma3"])
def test_what_was_parked_need_not_be_read_again(
    engine: Harness, synthetic: Synthetic, tmp_path: Path, model: str
) -> None:
    engine.load(synthetic(model), 1024)
    first = engine.generate(TEXT, SOME)
    n = n_used(engine)
    done = parked(engine, tmp_path / "home" / "cache" / "parked" / "3.park", "ggml:f16")
    assert done.n_tokens == n > 256
    assert stat.S_IMODE(Path(done.path).stat().st_mode) == 0o600
    forget(engine)
    assert n_used(engine) == 0
    back = resumed(engine, Path(done.path))
    assert back.n_tokens == n == n_used(engine)
    if model == "gemma3":  # a sliding window cannot go back a step; it can go on
        return
    again = engine.generate(TEXT, SOME)
    assert again.n_cached >= first.n_prompt - 1
    assert again.text == first.text


def test_it_comes_back_into_other_types_and_a_longer_context(
    engine: Harness, synthetic: Synthetic, tmp_path: Path
) -> None:
    engine.load(synthetic("llama"), 1024)
    engine.generate(TEXT, NOTHING)
    n = n_used(engine)
    path = Path(parked(engine, tmp_path / "a.park").path)
    engine.set_cache("q8_0", "q4_0", 2048)
    back = resumed(engine, path)
    assert (back.n_tokens, n_used(engine)) == (n, n)
    assert engine.generate(TEXT, SOME).n_cached >= n - 1


def test_a_damaged_file_a_missing_one_and_another_model_are_read_again(
    engine: Harness, synthetic: Synthetic, tmp_path: Path
) -> None:
    engine.load(synthetic("llama"), 1024)
    engine.generate(TEXT, NOTHING)
    path = Path(parked(engine, tmp_path / "a.park").path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    back = resumed(engine, path)
    assert (back.n_tokens, n_used(engine)) == (0, 0)
    assert "damaged" in back.sentence
    assert "again" in back.sentence
    path.write_bytes(whole)
    missing = resumed(engine, tmp_path / "nothing.park")
    assert (missing.n_tokens, missing.sentence) == (0, "")
    assert engine.generate(TEXT, SOME).n_cached == 0
    engine.load(synthetic("qwen3"), 1024)
    other = resumed(engine, path)
    assert other.n_tokens == 0
    assert "another model" in other.sentence


def test_a_new_conversation_takes_the_same_beginning_from_a_parked_one(
    engine: Harness, synthetic: Synthetic, tmp_path: Path
) -> None:
    engine.load(synthetic("llama"), 2048)
    system = Turn("system", FILLER * 16)
    engine.generate((system, Turn("user", "One.")), SOME)
    parked(engine, tmp_path / "home" / "cache" / "parked" / "3.park", "ggml:f16")
    forget(engine)
    other = engine.generate((system, Turn("user", "Something else.")), SOME)
    assert other.n_cached > 300
    alone = engine.generate((Turn("user", "Hello there."),), SOME)
    assert alone.n_cached < 20


def test_a_short_conversation_is_not_worth_a_file(
    engine: Harness, synthetic: Synthetic, tmp_path: Path
) -> None:
    engine.load(synthetic("llama"), 512)
    engine.generate(user("Hello."), NOTHING)
    done = parked(engine, tmp_path / "a.park")
    assert done.n_bytes == 0
    assert not (tmp_path / "a.park").exists()


def test_a_model_whose_memory_is_no_list_of_cells_is_refused(
    engine: Harness, synthetic: Synthetic, tmp_path: Path
) -> None:
    engine.load(synthetic("mamba"), 1024)
    engine.generate(TEXT, NOTHING)
    engine.send(Park(engine.next_id(), str(tmp_path / "a.park")))
    assert "recurrent" in engine.until(Failed).message


def test_a_full_disk_is_no_misfortune(engine: Harness, synthetic: Synthetic, tmp_path: Path) -> None:
    engine.load(synthetic("llama"), 1024)
    engine.generate(TEXT, NOTHING)
    engine.send(Park(engine.next_id(), str(tmp_path / "no such directory" / "a.park")))
    assert "could not be parked" in engine.until(Failed).message
    assert n_used(engine) > 256


def test_a_beginning_is_written_once_and_each_conversation_comes_back(
    engine: Harness, synthetic: Synthetic, tmp_path: Path
) -> None:
    folder = tmp_path / "home" / "cache" / "parked"
    engine.load(synthetic("llama"), 2048)
    system = Turn("system", FILLER * 24)
    texts, sizes = [], []
    for i, asked in enumerate(("One.", "Something else.", "A third thing. " * 20)):
        forget(engine)
        texts.append(engine.generate((system, Turn("user", asked)), SOME).text)
        done = parked(engine, folder / f"{i}.park", "ggml:q8_0")
        sizes.append(done.n_bytes)
        assert (done.n_shared > 400) == (done.shared_bytes > 0) == (i > 0)
    [beginning] = folder.glob("*.beginning")
    assert sum(p.stat().st_size for p in folder.iterdir()) < 0.6 * sum(sizes)
    for i, asked in enumerate(("One.", "Something else.", "A third thing. " * 20)):
        assert resumed(engine, folder / f"{i}.park").n_tokens > 400
        again = engine.generate((system, Turn("user", asked)), SOME)
        assert again.n_cached > again.n_prompt - 3
        assert again.text == texts[i]
    forget(engine)
    new = engine.generate((system, Turn("user", "Never asked before.")), SOME)
    assert new.n_cached > 400

    beginning.write_bytes(beginning.read_bytes()[:-9])
    back = resumed(engine, folder / "1.park")
    assert (back.n_tokens, n_used(engine)) == (0, 0)
    assert "missing or damaged. It is read again" in back.sentence
    assert not beginning.exists()  # so that the next one makes it again
    engine.generate((system, Turn("user", "Something else.")), SOME)
    assert parked(engine, folder / "1.park", "ggml:q8_0").n_shared > 400
    assert resumed(engine, folder / "0.park").n_tokens > 400


PRUNED = (Turn("user", FILLER * 10), Turn("assistant", "Yes."), Turn("user", FILLER * 8))


def status(engine: Harness) -> Status:
    return engine.ask(Ask(engine.next_id()), Status)


@pytest.mark.parametrize("whole", [False, True])
def test_a_pruned_conversation_comes_back_as_it_was(
    engine: Harness, synthetic: Synthetic, tmp_path: Path, whole: bool
) -> None:
    engine.load(synthetic("llama"), 1024)
    path = tmp_path / "home" / "cache" / "parked" / "3.park"
    engine.generate(PRUNED, NOTHING)
    engine.ask(PruneCache(engine.next_id(), PRUNED, 0.5, "lagkv", whole=whole), CacheChanged)
    before = engine.generate(PRUNED, SOME)
    talk = (*PRUNED, Turn("assistant", before.text), Turn("user", "And then?"))
    once = engine.generate(talk, SOME)
    now = status(engine)
    done = parked(engine, path, "ggml:f16", ("keep it",))
    assert done.n_gone == now.n_gone > 100
    assert done.n_tokens == now.n_used + now.n_gone

    engine.load(synthetic("llama"), 1024)
    back = resumed(engine, path)
    assert (back.n_tokens, back.n_gone, back.pins) == (done.n_tokens, now.n_gone, ("keep it",))
    assert f"pruned to {now.n_used}" in back.sentence
    assert (status(engine).n_used, status(engine).n_gone) == (now.n_used, now.n_gone)
    again = engine.generate(talk, SOME)  # what was left is still there, bit for bit
    assert again.n_cached > again.n_prompt - 3
    assert again.text == once.text

    engine.send(UndoCache(engine.next_id()))
    gone = engine.until(Failed)
    assert "no longer there" in gone.message and "/reprefill" in gone.hint

    engine.set_cache("q8_0", "q4_0", 2048)
    assert resumed(engine, path).n_gone == now.n_gone  # into other types and another length
    assert engine.generate(talk, SOME).n_cached > 200
    second = engine.ask(PruneCache(engine.next_id(), talk, 0.7, "lagkv"), CacheChanged)
    assert "Pruned by lagkv" in second.sentence

    assert resumed(engine, path).n_gone == now.n_gone
    edited = (Turn("user", "Changed. " + FILLER * 10), *PRUNED[1:])
    whole_again = engine.generate(edited, NOTHING)
    assert whole_again.n_cached == 0 and any("pruned" in note for note in whole_again.notes)
    assert status(engine).n_gone == 0

    assert resumed(engine, path).n_gone == now.n_gone
    engine.set_cache(reprefill=True)
    assert (status(engine).n_used, status(engine).n_gone) == (done.n_tokens, 0)


def test_a_pruned_conversation_is_no_beginning_for_others(
    engine: Harness, synthetic: Synthetic, tmp_path: Path
) -> None:
    engine.load(synthetic("llama"), 2048)
    system = Turn("system", FILLER * 16)
    talk = (system, Turn("user", "One."))
    engine.generate(talk, SOME)
    engine.ask(PruneCache(engine.next_id(), (Turn("user", "x"),), 0.5, "lagkv"), CacheChanged)
    parked(engine, tmp_path / "home" / "cache" / "parked" / "3.park", "ggml:f16")
    forget(engine)
    assert engine.generate((system, Turn("user", "Something else.")), SOME).n_cached == 0
    assert parked(engine, tmp_path / "home" / "cache" / "parked" / "4.park", "ggml:f16").n_shared == 0


def test_a_pruned_conversation_fits_where_its_cells_fit(
    engine: Harness, synthetic: Synthetic, tmp_path: Path
) -> None:
    engine.load(synthetic("llama"), 1024)
    engine.generate(PRUNED, NOTHING)
    engine.ask(PruneCache(engine.next_id(), PRUNED, 0.5, "lagkv"), CacheChanged)
    done = parked(engine, tmp_path / "3.park", "turboquant:4")
    forget(engine)
    engine.set_cache(n_ctx=256)
    assert done.n_tokens > 256 > done.n_tokens - done.n_gone
    assert resumed(engine, tmp_path / "3.park").n_tokens == done.n_tokens
