"""What does not fit is refused before it is made, and a change of the cache works when memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.engine.budget import LIMIT_VARIABLE, ram_limit
from app.engine.protocol import (
    Ask,
    CacheChanged,
    CachePreview,
    Failed,
    Load,
    Loaded,
    Sampling,
    SetCache,
    Status,
    UndoCache,
)
from tests.engine.harness import FILLER, Harness, user

Synthetic = Callable[..., Path]
WithLimit = Callable[[int], Harness]

MIB = 1 << 20
TURNS = user(FILLER * 20)
LONG = Sampling(temperature=0.0, max_tokens=60)


@pytest.fixture(scope="module")
def wide(synthetic: Synthetic) -> Path:
    """A model with 16 KiB of f16 cache per token: 64 MiB for 4,096."""
    return synthetic("llama", n_layer=4, head_dim=128, n_head=8, n_head_kv=8, n_ctx=8192)


@pytest.fixture
def with_limit(start_engine: Callable[[], Harness], monkeypatch: pytest.MonkeyPatch) -> Iterator[WithLimit]:
    """Starts an engine that may take so many bytes."""
    started: list[Harness] = []

    def start(limit: int) -> Harness:
        monkeypatch.setenv(LIMIT_VARIABLE, str(limit))
        started.append(start_engine())
        return started[-1]

    yield start
    for harness in started:
        harness.client.close()


def total_with(engine: Harness, path: Path, n_ctx: int, type_name: str = "f16") -> int:
    """What the whole process is predicted to take."""
    engine.load(path, n_ctx, (type_name, type_name))
    return engine.ask(Ask(engine.next_id()), Status).memory.predicted_total


def read(engine: Harness) -> None:
    engine.generate(TURNS, Sampling(temperature=0, max_tokens=0))


@pytest.mark.parametrize(
    ("text", "limit"),
    [("1000", 1000), ("2K", 2048), ("3m", 3 * MIB), ("1 GiB", 1024 * MIB), ("", None), ("much", None)],
)
def test_the_limit_of_the_environment(text: str, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, text)
    assert ram_limit() == limit


def test_a_load_that_does_not_fit_is_refused_with_what_fits(
    engine: Harness, with_limit: WithLimit, wide: Path
) -> None:
    small = with_limit(total_with(engine, wide, 2048) + MIB)
    command = Load(small.next_id(), str(wide), 8192)
    small.send(command)
    failed = small.until(Failed)
    assert failed.kind == "OutOfMemoryError" and "8,192" in failed.message
    assert "f16 up to 2,048" in failed.hint and "q8_0 up to " in failed.hint
    assert small.load(wide, 2048).n_ctx == 2048  # and what it names does fit
    rows = small.ask(Ask(small.next_id()), Status).rows
    assert rows[0].max_ctx == 2048 and rows[0].limit == "memory"
    assert [r.max_ctx for r in rows] == sorted(r.max_ctx for r in rows)
    smallest = rows[-1]
    assert small.load(wide, smallest.max_ctx, (smallest.type_k, smallest.type_v)).n_ctx == smallest.max_ctx


def test_a_length_that_is_left_to_the_engine_fits(engine: Harness, with_limit: WithLimit, wide: Path) -> None:
    assert engine.load(wide, 0).n_ctx == 8192
    assert with_limit(total_with(engine, wide, 1536) + MIB).load(wide, 0).n_ctx == 1536


def test_nothing_fits(with_limit: WithLimit, wide: Path) -> None:
    engine = with_limit(10 * MIB)
    command = Load(engine.next_id(), str(wide), 256)
    engine.send(command)
    failed = engine.until(Failed)
    assert failed.kind == "OutOfMemoryError" and "smaller model" in failed.hint


def test_both_caches_fit_side_by_side(engine: Harness, with_limit: WithLimit, wide: Path) -> None:
    """With less room the transcoded state waits in a file, and the old cache still stays until the end."""
    total = total_with(engine, wide, 4096)
    previews = []
    for spare in (200 * MIB, 0):
        spare = spare or previews[0].peak_bytes - MIB
        roomy = with_limit(total + spare)
        roomy.load(wide, 4096)
        read(roomy)
        command = SetCache(roomy.next_id(), "q8_0", "q8_0", preview=True)
        previews.append(roomy.ask(command, CachePreview))
        assert previews[-1].fits and not previews[-1].through_file
        assert previews[-1].peak_bytes <= spare
        n_used = roomy.ask(Ask(roomy.next_id()), Status).n_used
        roomy.set_cache("q8_0", "q8_0")
        assert roomy.ask(Ask(roomy.next_id()), Status).n_used == n_used
        assert roomy.generate(TURNS, LONG).n_cached == n_used - 1
    assert previews[1].peak_bytes < previews[0].peak_bytes - MIB


def test_where_both_do_not_fit_the_state_goes_through_a_file(
    engine: Harness, with_limit: WithLimit, wide: Path, home: Path
) -> None:
    tight = with_limit(total_with(engine, wide, 4096) + 20 * MIB)
    tight.load(wide, 4096)
    read(tight)
    expected = tight.generate(TURNS, LONG).text  # from the cache, as it will be after the undo
    preview = tight.ask(SetCache(tight.next_id(), "q8_0", "q8_0", preview=True), CachePreview)
    assert preview.fits and preview.through_file and "temporary file" in preview.sentence
    assert preview.peak_bytes < 20 * MIB
    n_used = tight.ask(Ask(tight.next_id()), Status).n_used
    changed = tight.set_cache("q8_0", "q8_0")
    assert not changed.reprefilled
    after = tight.ask(Ask(tight.next_id()), Status)
    assert after.n_used == n_used and after.memory.kv_measured == changed.bytes_after
    undone = tight.ask(UndoCache(tight.next_id()), CacheChanged)
    assert "exactly as they were" in undone.sentence
    assert tight.generate(TURNS, LONG).text == expected
    assert not list(home.glob("cache/states/*"))  # no file has a name that could stay behind


def test_a_change_that_does_not_fit_changes_nothing(
    engine: Harness, with_limit: WithLimit, wide: Path
) -> None:
    tight = with_limit(total_with(engine, wide, 4096) + 20 * MIB)
    tight.load(wide, 4096)
    read(tight)
    before = tight.ask(Ask(tight.next_id()), Status)
    for command in (
        SetCache(tight.next_id(), n_ctx=8192),
        SetCache(tight.next_id(), "f32", "f32"),
        SetCache(tight.next_id(), n_ctx=8192, reprefill=True),
    ):
        tight.send(command)
        failed = tight.until(Failed)
        assert failed.id == command.id and failed.kind == "OutOfMemoryError"
        assert "q8_0 up to" in failed.hint
    preview = tight.ask(SetCache(tight.next_id(), n_ctx=8192, preview=True), CachePreview)
    assert not preview.fits
    after = tight.ask(Ask(tight.next_id()), Status)
    assert (after.n_used, after.n_ctx, after.type_k) == (before.n_used, 4096, "f16")
    assert tight.generate(TURNS, LONG).n_cached == before.n_used - 1


def test_reading_again_frees_the_old_cache_first_where_both_do_not_fit(
    engine: Harness, with_limit: WithLimit, wide: Path
) -> None:
    tight = with_limit(total_with(engine, wide, 4096) + 20 * MIB)
    tight.load(wide, 4096)
    read(tight)
    n_used = tight.ask(Ask(tight.next_id()), Status).n_used
    changed = tight.set_cache("q8_0", "q8_0", reprefill=True)
    assert changed.reprefilled and tight.ask(Ask(tight.next_id()), Status).n_used == n_used


def test_another_model_takes_the_place_of_one_beside_which_it_does_not_fit(
    engine: Harness, with_limit: WithLimit, wide: Path, synthetic: Synthetic
) -> None:
    tight = with_limit(total_with(engine, wide, 4096) + 20 * MIB)
    tight.load(wide, 4096)
    other = synthetic("llama", n_layer=4, head_dim=128, n_head=8, n_head_kv=8, n_ctx=8192, seed=2)
    assert tight.load(other, 4096).model.path == str(other)


def test_a_model_that_fails_leaves_the_old_one_even_if_that_had_to_go_first(
    engine: Harness, with_limit: WithLimit, wide: Path, tmp_path: Path
) -> None:
    tight = with_limit(total_with(engine, wide, 4096) + 20 * MIB)
    tight.load(wide, 4096, ("q8_0", "q8_0"))
    # The header is sound, so it is judged possible; llama.cpp misses a tensor that it needs.
    data = wide.read_bytes().replace(b"blk.1.attn_k.weight", b"blk.1.attn_x.weight")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(data)
    command = Load(tight.next_id(), str(broken), 4096)
    tight.send(command)
    event = tight.until(Failed, Loaded)
    assert isinstance(event, Failed) and event.id == command.id and "attn_k" in event.message
    status = tight.ask(Ask(tight.next_id()), Status)
    assert (status.type_k, status.n_ctx) == ("q8_0", 4096)
    assert tight.generate(TURNS, LONG).n_generated > 0


def test_the_process_stays_within_the_prediction(start_engine: Callable[[], Harness], wide: Path) -> None:
    # An engine of its own: what earlier tests left in the heap is no matter of the prediction.
    engine = start_engine()
    with closing(engine.client):
        for types in (("f16", "f16"), ("q8_0", "q8_0"), ("q4_0", "q4_0")):
            engine.load(wide, 8192, types)
            read(engine)
            memory = engine.ask(Ask(engine.next_id()), Status).memory
            assert memory.kv_measured == memory.kv_predicted
            difference = abs(memory.rss - memory.predicted_total)
            assert difference <= max(0.03 * memory.rss, 32 * MIB), memory
