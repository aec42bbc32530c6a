"""Pruned states in a running model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

import quantize.prune.policies  # noqa: F401
from quantize import ggml
from quantize.errors import EngineError, StateError
from quantize.llama import Context
from quantize.model_ropes import ropes_of
from quantize.native import attention, register_types
from quantize.native.tail import Tail
from quantize.native.window import Layout, read_window
from quantize.prune.merge import merged
from quantize.prune.observe import Observed, Text, extra_cells, observe, watching_context
from quantize.prune.policy import POLICIES, Policy, policy
from quantize.prune.prune import Plan, plan_prune, write_pruned
from quantize.prune.selection import Request
from quantize.prune.window import carry
from quantize.state import SavedState, read_state
from tests.quantize.conftest import Engine, save

N = 120
Engines = Callable[..., Engine]


@pytest.fixture(autouse=True, scope="module")
def _kernel() -> Iterator[None]:
    assert register_types().ok
    assert attention.enable().ok
    yield
    attention.use("own")


def watched(
    engine: Engine, state: SavedState, chosen: Policy, type_k: int, type_v: int, whole_from: int = 0
) -> Observed | None:
    if not chosen.needs_kernel:
        return None
    text = Text(engine.tokens(N), whole_from, (4, 5, 6))
    n_ctx = N + extra_cells(chosen.observation, text)
    with watching_context(engine.model, n_ctx, type_k, type_v, 1) as (context, w):
        assert context.load_state(state.data)
        return observe(context, w, chosen.observation, text, state.n_cells, len(engine.geometry.parts[0]))


def prune(
    engine: Engine, state: SavedState, name: str, request: Request, types: tuple[int, int]
) -> tuple[Plan, NDArray[np.uint8]]:
    chosen = policy(name)
    plan = plan_prune(
        state,
        engine.geometry,
        chosen,
        request,
        ropes=ropes_of(engine.model, engine.geometry)[0],
        observed=watched(engine, state, chosen, *types),
    )
    out = np.zeros(plan.size, np.uint8)
    write_pruned(state, engine.geometry, plan, out)
    return plan, out


def logits_after(context: Context, position: int) -> NDArray[np.float32]:
    assert context.decode([7, 8, 9], position) == 0
    return context.logits().copy()


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("types", ((1, 1), (8, 2)))
def test_every_policy_in_a_model(engine: Engines, name: str, types: tuple[int, int]) -> None:
    """It chooses, the state is taken, the model goes on at the next position, and forgets newer tokens."""
    e = engine("llama")
    state = e.state(*types, N)
    plan, out = prune(e, state, name, Request(0.5, last=16), types)
    with e.context(*types) as context:
        assert context.load_state(out)
        assert context.last_position() == N - 1
        assert save(context).n_cells == plan.n_kept == N // 2
        first = logits_after(context, N)
        assert np.isfinite(first).all()
        assert context.remove(N)
        np.testing.assert_array_equal(logits_after(context, N), first)
        assert context.remove(plan.whole_from) and context.last_position() == plan.whole_from - 1


def test_whole_tokens_are_what_the_engine_removes_itself(engine: Engines) -> None:
    e = engine("llama")
    plan, out = prune(e, e.state(1, 1, N), "streaming", Request(0.5, per_head=False, quota=0.0), (1, 1))
    with e.context(1, 1) as a, e.context(1, 1) as b:
        assert a.load_state(out)
        assert b.load_state(e.state(1, 1, N).data)
        assert b.remove(4, N - plan.n_kept + 4)
        np.testing.assert_allclose(logits_after(a, N), logits_after(b, N), atol=1e-4)


def test_everything_kept_changes_nothing(engine: Engines) -> None:
    e = engine("llama")
    state = e.state(8, 8, N)
    _, out = prune(e, state, "kvzip", Request(1.0), (8, 8))
    np.testing.assert_array_equal(out, state.data)


def test_composite_cells_beat_nothing_but_hold_what_was_looked_at(engine: Engines) -> None:
    """The attention that a replay gives to what KVzip keeps is more than it gives to what it drops."""
    e = engine("llama")
    seen = watched(e, e.state(1, 1, N), policy("kvzip"), 1, 1)
    assert seen is not None
    plan, _ = prune(e, e.state(1, 1, N), "kvzip", Request(0.4, first=0, last=1, quota=0.0), (1, 1))
    for layer, kept in zip(seen.seen, plan.chosen, strict=True):
        for head, cells in enumerate(kept):
            left = np.setdiff1d(np.arange(N), cells)
            assert layer.most[head, cells[:-1]].mean() > 1.2 * layer.most[head, left].mean()


def test_a_second_prune_and_a_stop(engine: Engines) -> None:
    e = engine("llama")
    plan, out = prune(e, e.state(1, 1, N), "snapkv", Request(0.5, last=16), (1, 1))
    with e.context(1, 1) as context:
        assert context.load_state(out)
        again = save(context)
    seen = watched(e, again, policy("h2o"), 1, 1, plan.whole_from)
    second = plan_prune(again, e.geometry, policy("h2o"), Request(0.5, last=8), observed=seen)
    assert second.n_kept == plan.n_kept // 2 and second.positions[-1] == N - 1
    with pytest.raises(EngineError, match="stopped"):
        plan_prune(again, e.geometry, policy("knorm"), Request(0.5), on_progress=lambda _d, _n: False)


@pytest.mark.parametrize("shape", ({"head_dim": 128}, {"head_dim": 64, "n_head": 8, "n_head_kv": 1}))
def test_other_geometries(engine: Engines, shape: dict[str, int]) -> None:
    e = engine("llama", **shape)
    _, out = prune(e, e.state(8, 8, N), "kvzip", Request(0.3), (8, 8))
    with e.context(8, 8) as context:
        assert context.load_state(out)
        assert np.isfinite(logits_after(context, N)).all()


def test_v_in_columns(engine: Engines) -> None:
    """Without flash attention V is stored the other way round."""
    e = engine("llama")
    both = []
    for flash in (True, False):
        with Context(e.model, n_ctx=256, n_threads=1, n_ubatch=64, flash_attention=flash) as context:
            assert context.decode(e.tokens(N), 0, logits="none") == 0
            state = save(context)
            _, out = prune(e, state, "streaming", Request(0.5), (1, 1))
            context.clear()
            assert context.load_state(out)
            both.append(logits_after(context, N))
    np.testing.assert_allclose(both[0], both[1], atol=0.05)


@pytest.mark.parametrize("types", ((2, 2), (8, 2)))
def test_the_window_knows_of_every_head_what_it_knew(engine: Engines, types: tuple[int, int]) -> None:
    e = engine("llama")
    layout = Layout.plain(e.geometry)
    tail = Tail(48)
    with tail:
        context = e.context(*types)
    with context:
        assert context.decode(e.tokens(N), 0, logits="none") == 0
        state, before = save(context), read_window(tail, layout, *types)
        plan, out = prune(e, state, "knorm", Request(0.5, last=16), types)
        context.clear()
        assert context.load_state(out)
        pruned = read_state(out)
        carry(before, state, pruned, plan, layout, tail)
        after = read_window(tail, layout, *types)
    assert after.keys() == before.keys()
    n_exact = 0
    for (i, side), rows in after.items():
        then = before[i, side]
        # By their bytes: V of the first layer is the same wherever a token stands.
        known = {p.tobytes(): v.astype(np.float32) for p, v in zip(then.packed, then.values, strict=True)}
        source = (state.parts[0].k if side == "k" else state.parts[0].v)[i]
        plain = np.empty((N, rows.values.shape[1]), np.float32)
        ggml.dequantize(ggml.row_format(source.type_id), np.ascontiguousarray(state.rows(source)), plain)
        target = (pruned.parts[0].k if side == "k" else pruned.parts[0].v)[i]
        heads = len(plan.chosen[i])
        cells = []
        for cell, values, packed in zip(rows.cells, rows.values, rows.packed, strict=True):
            if cell >= plan.n_kept:
                continue  # from before the prune; it is never read, since there is no such row any more
            cells.append(int(cell))
            np.testing.assert_array_equal(packed, pruned.rows(target)[cell])
            for h in range(heads):
                old = int(plan.chosen[i][h, cell])
                width = slice(h * len(values) // heads, (h + 1) * len(values) // heads)
                packed_then = state.rows(source)[old].tobytes()
                n_exact += packed_then in known
                expected = known.get(packed_then, plain[old])[width]
                np.testing.assert_array_equal(values[width], expected.astype(np.float16))
        assert set(range(plan.n_kept - 16, plan.n_kept)) < set(cells)
    assert n_exact > len(after) * 2 * 16


def test_undone_byte_for_byte(engine: Engines) -> None:
    e = engine("llama")
    state = e.state(8, 2, N)
    plan, out = prune(e, state, "knorm", Request(0.5, last=16), (8, 2))
    np.testing.assert_array_equal(merged(state, read_state(out), N), state.data)
    with e.context(8, 2) as context:
        assert context.load_state(out)
        logits_after(context, N)
        now = save(context)
        back = read_state(merged(state, now, N))
    assert back.n_cells == N + 3 and now.n_cells == plan.n_kept + 3
    assert back.positions().tolist() == list(range(N + 3))
    for old, new, whole in zip(state.parts[0].k, now.parts[0].k, back.parts[0].k, strict=True):
        np.testing.assert_array_equal(back.rows(whole)[:N], state.rows(old))
        np.testing.assert_array_equal(back.rows(whole)[N:], now.rows(new)[-3:])
    with pytest.raises(StateError, match="another shape"):
        merged(e.state(1, 1, N), now, N)
