"""Age tiers: the newest rows are read exactly, and never a stale one."""

from __future__ import annotations

from collections.abc import Iterator

import llama_cpp.llama_cpp as L
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantize.cache_types import SINKS, cache_type
from quantize.geometry import Geometry
from quantize.llama import Context, Model, send_log_to
from quantize.native import attention, register_types
from quantize.native.tail import Tail
from quantize.native.window import (
    Filling,
    Layout,
    Source,
    Window,
    gather,
    place,
    read_window,
    window_bytes,
)
from quantize.state import SavedState, read_state
from quantize.transcode import transcode, transcoded_size
from tests.synthetic import SyntheticModels

HEAD_DIM = 64
N_EMBD = 128
"""Of K and of V in the model that these tests use: two KV heads."""


@pytest.fixture(scope="module")
def model(synthetic: SyntheticModels) -> Iterator[Model]:
    """A llama with two layers whose cache is not rotated when it is compressed."""
    send_log_to(lambda _level, _text: None)
    assert register_types().ok
    assert attention.enable().ok
    with Model(synthetic("llama", head_dim=HEAD_DIM, n_head=4, n_head_kv=2)) as made:
        yield made


def tokens(model: Model, n: int, seed: int = 0) -> list[int]:
    """Random ones."""
    return np.random.default_rng(seed).integers(5, model.n_vocab - 5, n).tolist()


def context(model: Model, name: str, tail: Tail | None = None, **more: int) -> Context:
    """A context of 512 cells with one cache type."""
    id = cache_type(name).variant(HEAD_DIM).id
    settings = {"n_ctx": 512, "n_ubatch": 64, "n_batch": 512, "type_k": id, "type_v": id} | more
    if tail is None:
        return Context(model, **settings)
    with tail:
        return Context(model, **settings)


def feed(c: Context, ids: list[int], start: int = 0) -> NDArray[np.float32]:
    """Read ``ids`` and give the logits of the last one."""
    assert c.decode(ids, start) == 0
    return c.logits().copy()


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Relative."""
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(a**2)))


@pytest.mark.parametrize("name", ("q2_0", "tq2", "q4_0"))
def test_a_window_over_everything_is_the_exact_cache(model: Model, name: str) -> None:
    """Whatever the cache's type: all rows are read from the tail, in batches and token by token."""
    ids = tokens(model, 230)
    with context(model, "f16") as plain:
        want = [feed(plain, ids[:200])] + [feed(plain, [t], 200 + i) for i, t in enumerate(ids[200:])]
    with context(model, name, Tail(300)) as c:
        got = [feed(c, ids[:200])] + [feed(c, [t], 200 + i) for i, t in enumerate(ids[200:])]
    with context(model, name) as c:
        without = feed(c, ids[:200])
    assert distance(np.array(want), np.array(got)) < 0.02
    assert distance(want[0], without) > 3 * distance(want[0], got[0])


def test_the_window_reaches_back_from_every_query(model: Model) -> None:
    """A token in the middle of a micro-batch reads the rows before it as exactly as one at its end:
    reading in one batch, in micro-batches or token by token gives the same."""
    ids = tokens(model, 150)
    results = []
    for n_ubatch, step in ((256, 150), (32, 150), (64, 1)):
        with context(model, "q2_0", Tail(40), n_ubatch=n_ubatch) as c:
            for start in range(0, 150, step):
                last = feed(c, ids[start : start + step], start)
            results.append(last)
    with context(model, "q2_0") as c:
        without = feed(c, ids)
    # blocks of queries may read more than their window exactly, so results are close, not equal
    scale = distance(results[2], without)
    assert distance(results[2], results[0]) < scale
    assert distance(results[2], results[1]) < scale


def test_rows_of_the_window_are_what_the_model_wrote(model: Model) -> None:
    """They are the rows of an f16 cache, in order, for every layer."""
    ids = tokens(model, 100)
    tail = Tail(30)
    with context(model, "q8_0", tail) as c, context(model, "q8_0") as plain:
        feed(c, ids)
        feed(plain, ids)
        state = np.zeros(plain.state_size(), np.uint8)
        plain.save_state(state)
        for layer in range(2):
            for side in "kv":
                cells, values = tail.read(layer, side, N_EMBD)
                assert cells.tolist() == list(range(70, 100))
                assert values.shape == (30, N_EMBD)
                assert np.isfinite(values).all() and values.any()


def test_memory_is_what_the_plan_counts(model: Model) -> None:
    """Per row: values as f16, the bytes made from them, a number; twice the micro-batch besides."""
    tail = Tail(48)
    with context(model, "q4_0", tail, n_ubatch=64) as c:
        feed(c, tokens(model, 64))
        row = 4 + 2 * N_EMBD + N_EMBD // 32 * 18
        assert tail.bytes == 2 * 2 * 48 * row + 2 * 2 * 64 * row
        feed(c, tokens(model, 200), 64)
        assert tail.bytes == 2 * 2 * 48 * row + 2 * 2 * 64 * row
    assert tail.bytes == -1 and not tail.alive


def test_resizing_keeps_what_fits(model: Model) -> None:
    """The newest rows stay, and new ones come in behind them."""
    tail = Tail(50)
    with context(model, "q8_0", tail) as c:
        feed(c, tokens(model, 64))
        assert tail.resize(20)
        assert tail.read(0, "k", N_EMBD)[0].tolist() == list(range(44, 64))
        assert tail.resize(30)
        assert tail.rows(0, "k") == 20
        feed(c, tokens(model, 25), 64)
        assert tail.read(1, "v", N_EMBD)[0].tolist() == list(range(59, 89))
        assert tail.resize(0)
        assert tail.rows(0, "k") == 0
        assert np.isfinite(feed(c, [3], 89)).all()
    assert not tail.resize(10)


def test_a_restored_state_reads_no_stale_rows(model: Model) -> None:
    """The cells hold other rows than those that the tail knows: it counts as empty."""
    first, second, more = tokens(model, 120, 1), tokens(model, 120, 2), tokens(model, 10, 3)
    with context(model, "q4_0") as c:
        feed(c, first)
        state = np.zeros(c.state_size(), np.uint8)
        c.save_state(state)
        want = feed(c, more, 120)
    with context(model, "q4_0", Tail(200)) as c:
        feed(c, second)
        c.clear()
        assert c.load_state(state)
        got = feed(c, more, 120)
    with context(model, "q4_0", Tail(200)) as c:  # the same without anything to confuse
        assert c.load_state(state)
        clean = feed(c, more, 120)
    # tiles with exact rows are multiplied as f32, also when the rows turn out to be stale
    assert distance(clean, got) < 0.01
    assert distance(want, got) < 0.3


def test_rewriting_the_end_replaces_its_rows(model: Model) -> None:
    """An edited message: the same cells, other tokens."""
    ids, other = tokens(model, 120, 1), tokens(model, 50, 2)
    with context(model, "q2_0", Tail(60)) as c:
        feed(c, ids)
        assert c.remove(70)
        edited = feed(c, other, 70)
    with context(model, "q2_0", Tail(60)) as c:
        feed(c, ids[:70])
        straight = feed(c, other, 70)
    with context(model, "q2_0") as c:
        without = feed(c, ids[:70] + other)
    # fewer rows before the edit are left in the window than without it
    assert distance(straight, edited) < distance(straight, without)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.integers(1, 90)),
            st.tuples(st.just("trim"), st.integers(0, 60)),
            st.tuples(st.just("shift"), st.integers(1, 40)),
            st.tuples(st.just("edit"), st.integers(1, 60)),
            st.tuples(st.just("fork"), st.integers(1, 30)),
            st.tuples(st.just("resize"), st.integers(0, 80)),
            st.tuples(st.just("save"), st.just(0)),
            st.tuples(st.just("restore"), st.just(0)),
            st.tuples(st.just("clear"), st.just(0)),
        ),
        min_size=3,
        max_size=12,
    ),
    st.integers(0, 10_000),
)
def test_whatever_is_done_to_the_cache_a_full_window_reads_only_true_rows(
    model: Model, steps: list[tuple[str, int]], seed: int
) -> None:
    """With q8_0 below it the tail changes next to nothing, unless a row is read that is not there."""
    rng = np.random.default_rng(seed)
    tail = Tail(64)
    saved: NDArray[np.uint8] | None = None
    saved_at = n = 0
    both = {"n_seq_max": 2, "n_outputs_max": 2, "n_ctx": 1024}
    with context(model, "q8_0", tail, **both) as c, context(model, "q8_0", **both) as plain:
        for what, number in steps:
            if what == "read" and n + number < 500:
                ids = rng.integers(5, model.n_vocab - 5, number).tolist()
                assert distance(feed(plain, ids, n), feed(c, ids, n)) < 0.1
                n += number
            elif what == "trim":
                n = max(0, n - number)
                assert c.remove(n) and plain.remove(n)
            elif what == "shift" and n > number + 8:  # the tokens after the first four move back
                for one in (c, plain):
                    assert one.remove(4, 4 + number)
                    L.llama_memory_seq_add(one.memory, 0, 4 + number, -1, -number)
                n -= number
            elif what == "edit" and n:  # the newest tokens are said differently
                at = max(0, n - number)
                ids = rng.integers(5, model.n_vocab - 5, n - at).tolist()
                assert c.remove(at) and plain.remove(at)
                assert distance(feed(plain, ids, at), feed(c, ids, at)) < 0.1
            elif what == "fork" and n and n + number < 500:  # another branch with the same beginning
                ids = rng.integers(5, model.n_vocab - 5, number).tolist()
                results = []
                for one in (c, plain):
                    L.llama_memory_seq_rm(one.memory, 1, -1, -1)
                    L.llama_memory_seq_cp(one.memory, 0, 1, -1, -1)
                    assert one.decode(ids, n, seq=1) == 0
                    results.append(one.logits().copy())
                assert distance(*results) < 0.1
            elif what == "resize":
                tail.resize(number)
            elif what == "save" and n:
                saved, saved_at = np.zeros(plain.state_size(), np.uint8), n
                plain.save_state(saved)
            elif what == "restore" and saved is not None:
                c.clear()
                plain.clear()
                assert c.load_state(saved) and plain.load_state(saved)
                n = saved_at
            elif what == "clear":
                c.clear()
                plain.clear()
                n = 0


GEOMETRY = Geometry.uniform(2, HEAD_DIM, HEAD_DIM, 2)


def saved_state(c: Context) -> SavedState:
    """Everything of the sequence."""
    data = np.zeros(c.state_size(), np.uint8)
    return read_state(data[: c.save_state(data)])


def in_types(state: SavedState, name: str) -> SavedState:
    """The same in other types."""
    id = cache_type(name).variant(HEAD_DIM).id
    out = np.zeros(transcoded_size(state, GEOMETRY, id, id), np.uint8)
    assert transcode(state, GEOMETRY, id, id, out)
    return read_state(out)


def filling(state: SavedState, name: str, window: Window | None = None, n: int = 200) -> Filling:
    """The newest rows of ``state`` for a cache of other types."""
    id = cache_type(name).variant(HEAD_DIM).id
    sources = [Source(state, window, state.n_cells)]
    return gather(n, sources, state, Layout.plain(GEOMETRY), id, id)


def window_of(tail: Tail, name: str) -> Window:
    """What the tail of a cache with this type holds."""
    id = cache_type(name).variant(HEAD_DIM).id
    window = read_window(tail, Layout.plain(GEOMETRY), id, id)
    return place(window, np.zeros(window_bytes(window), np.uint8))


@pytest.mark.parametrize("name", ("q2_0", "tq2"))
def test_filling_the_window_after_a_switch(model: Model, name: str) -> None:
    """A window over all that was switched reads it as the f16 cache had it, in spite of the rotation."""
    ids, more = tokens(model, 150, 1), tokens(model, 8, 2)
    with context(model, "f16") as c:
        feed(c, ids)
        state = saved_state(c)
        want = feed(c, more, 150)
    switched = in_types(state, name)
    tail = Tail(200)
    with context(model, name, tail) as c:
        assert c.load_state(switched.data)
        rows = filling(state, name)
        assert rows.n_exact == 150
        rows.fill(tail, switched)
        got = feed(c, more, 150)
    with context(model, name, Tail(200)) as c:
        assert c.load_state(switched.data)
        without = feed(c, more, 150)
    assert distance(want, got) < 0.03 < distance(want, without)


def test_a_window_goes_with_the_conversation_from_one_compressed_cache_to_another(model: Model) -> None:
    """The old tail knows better than the old cache what the newest tokens were."""
    ids, more = tokens(model, 120, 1), tokens(model, 8, 2)
    with context(model, "f16") as c:
        feed(c, ids)
        want = feed(c, more, 120)
    results = []
    for carried in (False, True):
        before, after = Tail(200), Tail(200)
        with context(model, "tq2", before) as c:
            feed(c, ids)
            state = saved_state(c)
            switched = in_types(state, "q2_0")
            with context(model, "q2_0", after) as d:
                assert d.load_state(switched.data)
                rows = filling(state, "q2_0", window_of(before, "tq2") if carried else None)
                assert rows.n_exact == (120 if carried else 0)
                rows.fill(after, switched)
                results.append(feed(d, more, 120))
    assert distance(want, results[1]) < 0.05 < distance(want, results[0])


def test_values_that_belong_to_other_bytes_are_not_read(model: Model) -> None:
    """Filled with nonsense whose bytes are not in the cache."""
    ids, more = tokens(model, 100, 1), tokens(model, 8, 2)
    results = []
    for nonsense in (False, True):
        with context(model, "q8_0") as c:
            feed(c, ids)
            state = saved_state(c)
        tail = Tail(100)
        with context(model, "q8_0", tail) as c:
            assert c.load_state(state.data)
            if nonsense:
                packed = state.rows(state.parts[0].k[0]) ^ 1
                assert tail.fill(0, "k", np.arange(100), np.full((100, N_EMBD), 9.0, np.float32), packed)
            results.append(feed(c, more, 100))
    assert distance(*results) < 0.01


def test_without_the_kernel_a_tail_does_nothing() -> None:
    """It is not an error to ask for one."""
    tail = Tail(10)
    assert tail.bytes == -1 and tail.rows(0, "k") == 0 and not tail.resize(5)
    with pytest.raises(ValueError, match="cannot have -1 tokens"):
        Tail(-1)


def test_the_window_goes_into_the_rows_of_a_finer_cache(model: Model) -> None:
    """tq2 with a window, then f16: the newest tokens are exact there, not what tq2 made of them."""
    ids, more = tokens(model, 120, 1), tokens(model, 8, 2)
    with context(model, "f16") as c:
        feed(c, ids)
        exact = saved_state(c)
    tail = Tail(40)
    with context(model, "tq2", tail) as c:
        feed(c, ids)
        state = saved_state(c)
        rows = filling(state, "f16", window_of(tail, "tq2"), n=40)
    assert rows.n_exact == 40
    switched = in_types(state, "f16")
    before = [switched.rows(k).copy() for k in switched.parts[0].k]
    rows.write_into(switched)
    for old, new, want in zip(before, switched.parts[0].k, exact.parts[0].k, strict=True):
        values, true = (x.view(np.float16).astype(np.float32) for x in (switched.rows(new), exact.rows(want)))
        assert np.array_equal(old[:80], switched.rows(new)[:80])
        if new is switched.parts[0].k[0]:  # later layers have seen the compressed rows of the older tokens
            assert distance(true[80:], values[80:]) < 0.002
            assert distance(true[:80], values[:80]) > 0.1
    with context(model, "f16") as c:
        assert c.load_state(switched.data)
        assert np.isfinite(feed(c, more, 120)).all()


def test_exact_rows_are_found_in_the_first_cache_that_held_them(model: Model) -> None:
    """f16, then tq2 without a window, then tq2 with one: the f16 rows that were kept for an undo count,
    as far as the conversation is the same."""
    ids = tokens(model, 100, 1)
    with context(model, "f16") as c:
        feed(c, ids)
        first = saved_state(c)
    now = in_types(first, "tq2")
    id = cache_type("tq2").variant(HEAD_DIM).id
    for n_valid, n_exact in ((100, 30), (90, 20), (70, 0)):
        sources = [Source(first, None, n_valid), Source(now, None, 100)]
        rows = gather(30, sources, now, Layout.plain(GEOMETRY), id, id)
        assert rows.n_exact == n_exact
        assert {len(f.cells) for f in rows.found} == {n_exact + SINKS}  # the first tokens as well


def test_rows_are_found_by_position_and_not_by_cell(model: Model) -> None:
    """A cache whose cells are in another order than its tokens (a sliding window that went round)."""
    ids = tokens(model, 60, 1)
    with context(model, "f16") as c:
        feed(c, ids)
        state = saved_state(c)
    order = np.r_[20:60, 0:20]
    turned = read_state(state.data.copy())
    turned.positions()[:] = state.positions()[order]
    for mine, theirs in zip(
        (*turned.parts[0].k, *turned.parts[0].v), (*state.parts[0].k, *state.parts[0].v), strict=True
    ):
        turned.rows(mine)[:] = state.rows(theirs)[order]
    plain, other = filling(state, "tq2", n=25), filling(turned, "tq2", n=25)
    for a, b in zip(plain.found, other.found, strict=True):
        assert np.array_equal(order[b.cells], a.cells)
        assert np.array_equal(a.values, b.values)
