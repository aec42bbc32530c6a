"""Saved states whose K lacks a constant: carried from one to another, pruned, joined, parked, never mixed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import quantize.prune.policies  # noqa: F401
from app.engine.history import put_exact_rows
from quantize import centring as module
from quantize.buffers import allocate
from quantize.centring import Centring
from quantize.errors import StateError
from quantize.llama import Context
from quantize.model_ropes import ropes_of
from quantize.native import attention, register_types
from quantize.native.tail import Tail
from quantize.native.window import Layout, Source, gather, read_window
from quantize.park.codec import parse
from quantize.park.facts import facts_of
from quantize.park.file import ParkReader
from quantize.park.parking import park, unpark
from quantize.park.plain import Source as PlainRows
from quantize.prune.merge import merged
from quantize.prune.policy import policy
from quantize.prune.prune import plan_prune, write_pruned
from quantize.prune.selection import Request
from quantize.rotation import hadamard
from quantize.state import CENTRED, MAGIC, SavedState, read_state, write_header
from quantize.transcode import transcode, transcoded_size
from tests.quantize.centred import made_centring
from tests.quantize.conftest import Engine, save
from tests.quantize.test_centred_contexts import distance

F16, Q8_0 = 1, 8
N = 140
NEXT = [7, 8, 9]

pytestmark = pytest.mark.skipif(not attention.enable().ok, reason="there is no native library")


@pytest.fixture(autouse=True)
def _on() -> Iterator[None]:
    assert register_types().ok
    before = list(module._finders)
    module._finders.clear()
    yield
    module._finders[:] = before
    attention.use("own")


@pytest.fixture(params=["llama", "gemma3", "qwen2vl"])
def e(engine: Callable[..., Engine], request: pytest.FixtureRequest) -> Iterator[Engine]:
    yield from with_no_centring(engine, request.param)


@pytest.fixture
def llama(engine: Callable[..., Engine]) -> Iterator[Engine]:
    yield from with_no_centring(engine, "llama")


def with_no_centring(engine: Callable[..., Engine], name: str) -> Iterator[Engine]:
    found = engine(name, n_swa=96) if name == "gemma3" else engine(name)
    found.model.centring = None
    yield found
    found.model.centring = None


def constants(e: Engine, seed: int) -> Centring:
    return made_centring(e.geometry, ropes_of(e.model, e.geometry), seed, size=0.5)


def opened(e: Engine, centring: Centring | None, type_k: int = Q8_0) -> Context:
    e.model.centring = centring
    c = e.context(type_k, Q8_0)
    assert c.centring is centring or type_k == F16
    return c


def state_with(e: Engine, centring: Centring | None, type_k: int = Q8_0) -> SavedState:
    """Of N tokens."""
    with opened(e, centring, type_k) as c:
        assert c.decode(e.tokens(N), 0, logits="none") == 0
        return save(c)


def carried(e: Engine, state: SavedState, type_k: int, centring: Centring | None) -> SavedState:
    out = np.empty(transcoded_size(state, e.geometry, type_k, Q8_0), np.uint8)
    assert transcode(state, e.geometry, type_k, Q8_0, out, centring=centring)
    return read_state(out)


def says(
    e: Engine, data: NDArray[np.uint8], centring: Centring | None, type_k: int = Q8_0
) -> NDArray[np.float32]:
    """Logits of what follows a state."""
    with opened(e, centring, type_k) as c:
        assert c.load_state(data)
        assert c.decode(NEXT, c.last_position() + 1) == 0
        return c.logits().copy()


# ---------------------------------------------------------------- carried


def test_from_any_to_any(e: Engine) -> None:
    """Whole rows, rows without A, without B, and f16: what follows is the same."""
    a, b = constants(e, 1), constants(e, 2)
    source = state_with(e, None, F16)
    want = says(e, source.data, None, F16)
    state = source
    for type_k, centring in ((Q8_0, a), (Q8_0, b), (F16, None), (Q8_0, None), (Q8_0, a), (Q8_0, None)):
        state = carried(e, state, type_k, centring)
        assert state.centring == (0 if centring is None else centring.id)
        assert distance(want, says(e, state.data, centring, type_k)) < 0.05
    own = state_with(e, a)
    assert np.array_equal(carried(e, own, Q8_0, a).data, own.data)


def test_a_state_is_loaded_with_its_own_constant_alone(e: Engine) -> None:
    a, b = constants(e, 1), constants(e, 2)
    states = {None: state_with(e, None), a: state_with(e, a), b: state_with(e, b)}
    for mine in states:
        with opened(e, mine) as c:
            for other, state in states.items():
                before = state.data.copy()
                assert c.load_state(state.data) == (mine == other)
                assert np.array_equal(before, state.data)
            read_only = states[mine].data.copy()
            read_only.flags.writeable = False
            assert c.load_state(read_only)


def test_what_nobody_knows_is_not_read(llama: Engine, tmp_path: Path) -> None:
    """The state of a centring that is gone: every way to its rows says so."""
    e, gone, a = llama, constants(llama, 5), constants(llama, 1)
    state, number = state_with(e, gone), gone.id
    e.model.centring = None
    del gone
    gc.collect()
    assert state.centring == number
    lost = pytest.raises(StateError, match="no longer there")
    with lost:
        carried(e, state, F16, None)
    facts = facts_of(e.model, e.geometry, tmp_path)
    with lost:
        PlainRows(state, facts.frame)
    with lost:
        plan_prune(state, e.geometry, policy("knorm"), Request(0.5))
    with opened(e, a) as c:
        assert not c.load_state(state.data)
        assert c.last_position() == -1
    other = state_with(e, a)
    filling = gather(
        20, [Source(state, None, N), Source(other, None, N)], other, Layout.plain(e.geometry), Q8_0, Q8_0, a
    )
    assert filling.n_exact == 0  # and no error: it only helps


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.booleans())
def test_any_header(first: int, second: int, near: bool) -> None:
    """Read as what it says, or refused."""
    data = np.zeros(16, np.uint8)
    data[8:12].view("<u4")[:] = 1
    data[:8].view("<u4")[:] = (CENTRED | first & 0xFF if near else first), second
    try:
        state = read_state(data)
    except StateError:
        return
    magic = int(data[:4].view("<u4")[0])
    assert (magic == MAGIC and state.centring == 0) or (state.centring == second != 0)


def test_the_header_is_the_only_difference_to_llama_cpp(llama: Engine) -> None:
    """llama.cpp refuses it, so that no other program can read it wrongly."""
    a = constants(llama, 1)
    state = state_with(llama, a)
    with opened(llama, None) as c:
        assert not c.load_state(state.data)
        assert not c._load(state.data, 0, False)
        plain = state.data.copy()
        write_header(plain, 0)
        assert c._load(plain, 0, False)


# ---------------------------------------------------------------- pruned, joined


@pytest.mark.parametrize("per_head", [True, False])
def test_pruned_as_whole_rows_are(llama: Engine, per_head: bool) -> None:
    """The same cells stay, in other positions too; what follows is the same."""
    e, a = llama, constants(llama, 1)
    whole, lacking = state_with(e, None), state_with(e, a)
    plans = [
        plan_prune(s, e.geometry, policy("knorm"), Request(0.5, per_head=per_head)) for s in (whole, lacking)
    ]
    same = [np.mean(x == y) for x, y in zip(plans[0].chosen, plans[1].chosen, strict=True)]
    assert min(same) > 0.5
    results = []
    for state, centring in ((whole, None), (lacking, a)):
        plan = replace(plans[0], size=plans[1].size)
        out = np.zeros(plan.size, np.uint8)
        write_pruned(state, e.geometry, plan, out)
        assert read_state(out).centring == state.centring
        results.append(says(e, out, centring))
    assert distance(*results) < 0.03


def test_joined_with_its_own_kind_alone(llama: Engine) -> None:
    """Rows that lack two constants are never in one state."""
    e, a, b = llama, constants(llama, 1), constants(llama, 2)
    states = [state_with(e, x) for x in (None, a, b)]
    for one in states:
        for other in states:
            target = other.data.copy()
            if one is other:
                assert np.array_equal(merged(one, other, 50), one.data)
                put_exact_rows(target, one.data, 50)
                continue
            with pytest.raises(StateError, match="another shape"):
                merged(one, other, 50)
            with pytest.raises(StateError, match="another shape"):
                put_exact_rows(target, one.data, 50)
            assert np.array_equal(target, other.data)


# ---------------------------------------------------------------- parked


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@pytest.mark.parametrize("codec", ["ggml:f16", "ggml:q8_0", "turboquant:4"])
def test_parked_with_one_and_taken_out_with_another(
    engine: Callable[..., Engine], tmp_path: Path, name: str, codec: str
) -> None:
    for e in with_no_centring(engine, name):
        a, b = constants(e, 1), constants(e, 2)
        state = state_with(e, a)
        want = says(e, state.data, a)
        facts = facts_of(e.model, e.geometry, tmp_path)
        path = tmp_path / "a.park"
        assert park(state, e.tokens(N), facts, parse(codec), path) is not None
        for centring, type_k in ((a, Q8_0), (b, Q8_0), (None, Q8_0), (None, F16)):
            with ParkReader(path) as reader:
                assert reader.about.centring == a.id
                back = unpark(reader, facts, type_k, Q8_0, allocate, centring)
            assert back.centring == (0 if centring is None else centring.id)
            limit = 0.4 if codec == "turboquant:4" else 0.05
            assert distance(want, says(e, back.data, centring, type_k)) < limit
        e.model.centring = None
        del a, state
        gc.collect()
        with ParkReader(path) as reader, pytest.raises(StateError, match="no longer there"):
            unpark(reader, facts, Q8_0, Q8_0, allocate, b)


# ---------------------------------------------------------------- exact rows


def test_exact_rows_go_from_one_constant_to_another(llama: Engine) -> None:
    """They are the rows of the f16 cache, whatever they lacked on the way."""
    e, a, b = llama, constants(llama, 1), constants(llama, 2)
    layout = Layout.plain(e.geometry)
    exact = state_with(e, None, F16)
    e.model.centring = a
    tail = Tail(30, 4)
    with tail:
        c = e.context(Q8_0, Q8_0)
    with c:
        assert c.centring is a
        assert c.decode(e.tokens(N), 0, logits="none") == 0
        state, window = save(c), read_window(tail, layout, Q8_0, Q8_0)
    for centring in (a, b, None):
        like = carried(e, state, Q8_0, centring)
        filling = gather(30, [Source(state, window, N)], like, layout, Q8_0, Q8_0, centring)
        assert filling.n_exact == 30
        filling.write_into(like)
        for f in filling.found:
            if f.side != "k":
                continue
            values = f.values.astype(np.float32)
            at = like.positions()[f.cells].astype(np.int32)
            if centring is not None:
                centring.rows(0, f.index, values, at, rotated=False, back=True)
            elif (turn := a.hadamard(0)) > 0:
                hadamard(values.reshape(-1), turn)
            rows = exact.rows(exact.parts[0].k[f.index])[f.cells]
            want = np.ascontiguousarray(rows).view(np.float16).astype(np.float32)
            # layer 1 saw the rounding of the cache of layer 0
            np.testing.assert_allclose(values[f.exact], want[f.exact], atol=0.01 if f.index == 0 else 0.3)
