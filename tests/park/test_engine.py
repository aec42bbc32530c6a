"""Parking and resuming in the engine, with models that have random weights."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.engine.protocol import Ask, Failed, Forget, Park, Parked, Resume, Resumed, Sampling, Status, Turn
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


def parked(engine: Harness, path: Path, codec: str = "auto") -> Parked:
    path.parent.mkdir(parents=True, exist_ok=True)
    return engine.ask(Park(engine.next_id(), str(path), 3, codec), Parked)


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
