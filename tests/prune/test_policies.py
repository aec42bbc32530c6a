"""What every policy must do; a new one joins by registering."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quantize.prune.policies  # noqa: F401
from quantize.errors import StateError, UsageError
from quantize.native.attention_mass import Seen
from quantize.prune.layer import Layer
from quantize.prune.policy import POLICIES, Policy, policy
from quantize.prune.prune import Plan, check, plan_prune, read_layer, write_pruned
from quantize.prune.selection import Request, agreed
from quantize.state import SavedState, read_state
from tests.prune.made import TYPES, Case
from tests.quantize import handmade

every_policy = pytest.mark.parametrize("name", POLICIES)

cases = st.builds(
    Case,
    head_dim=st.sampled_from((64, 128, 256)),
    n_head_kv=st.sampled_from((1, 2, 8)),
    group=st.sampled_from((1, 2, 8)),
    n_layer=st.sampled_from((1, 3)),
    n_cells=st.sampled_from((1, 2, 5, 70, 300, 513)),
    type_k=st.sampled_from(sorted(TYPES)),
    type_v=st.sampled_from(sorted(TYPES)),
    seed=st.integers(0, 3),
)
requests = st.builds(
    Request,
    keep=st.sampled_from((0.01, 0.25, 0.5, 0.9, 1.0)),
    per_head=st.booleans(),
    first=st.sampled_from((0, 4)),
    last=st.sampled_from((0, 1, 64)),
    protected=st.sampled_from(((), ((10, 20), (30, 31)))),
    segments=st.sampled_from(((), (0, 7, 200))),
    quota=st.sampled_from((0.0, 0.5)),
)


def pruned(case: Case, request: Request, name: str) -> tuple[SavedState, SavedState, Plan]:
    """Before and after, and what was chosen."""
    before = case.state()
    plan = plan_prune(
        before,
        case.geometry,
        policy(name),
        request,
        ropes=case.ropes,
        observed=case.observed() if case.n_cells else None,
    )
    out = np.zeros(plan.size, np.uint8)
    write_pruned(before, case.geometry, plan, out)
    return before, read_state(out), plan


@every_policy
@settings(max_examples=12, deadline=None)
@given(case=cases, request=requests)
def test_what_stays_is_what_was_there(name: str, case: Case, request: Request) -> None:
    """Every kept row of a head is a row of that head, byte for byte; what is protected stays; the newest
    tokens are whole; nothing is there twice; as many stay as were asked for."""
    before, after, plan = pruned(case, request, name)
    n = before.n_cells
    mask = request.mask(before.positions())
    n_kept = request.n_kept(mask)
    assert after.n_cells == n_kept >= min(n, max(1, request.keep * n) - 1)
    positions = after.positions()
    assert (np.diff(positions) > 0).all() and positions[-1] == n - 1
    last = request.n_last(n)
    assert positions[-last:].tolist() == list(range(n - last, n))
    for side in ("k", "v"):
        both = zip(plan.chosen, getattr(before.parts[0], side), getattr(after.parts[0], side), strict=True)
        for chosen, old, new in both:
            assert (old.type_id, old.row_size) == (new.type_id, new.row_size)
            rows = before.rows(old).reshape(n, case.n_head_kv, -1)
            kept = after.rows(new).reshape(n_kept, case.n_head_kv, -1)
            for head in range(case.n_head_kv):
                where = {r.tobytes(): i for i, r in enumerate(rows[:, head])}
                cells = [where.get(r.tobytes(), -1) for r in kept[:, head]]
                assert cells == chosen[head].tolist() == sorted(set(cells))
                assert set(np.flatnonzero(mask)) <= set(cells)
                if not request.per_head:
                    assert cells == positions.tolist()
    again, once_more, _ = pruned(case, request, name)
    assert (once_more.data == after.data).all() and again.n_cells == n


@every_policy
def test_no_segment_vanishes(name: str) -> None:
    case = Case(n_cells=600)
    request = Request(0.2, first=0, last=1, segments=(0, 100, 300, 500), quota=0.5)
    plan = plan_prune(
        case.state(), case.geometry, policy(name), request, ropes=case.ropes, observed=case.observed()
    )
    for kept in plan.chosen:
        for head in kept:
            counts = np.histogram(head, (0, 100, 300, 500, 600))[0]
            assert (counts >= 0.5 * 0.2 * np.array([100, 200, 200, 100]) - 2).all(), (name, counts)


@every_policy
def test_scores_have_a_value_for_every_cell(name: str) -> None:
    for n_cells in (1, 3, 64, 400):
        case = Case(n_cells=n_cells, type_k="q8_0")
        layer = read_layer(case.state(), case.geometry, 0, case.ropes[0], case.observed())
        scores = policy(name).score(layer)
        assert scores.shape == (case.n_head_kv, n_cells) and np.isfinite(scores).all()


@every_policy
def test_an_empty_sequence_stays_empty(name: str) -> None:
    case = Case(n_cells=0)
    plan = plan_prune(case.state(), case.geometry, policy(name), Request(0.5))
    out = np.zeros(plan.size, np.uint8)
    write_pruned(case.state(), case.geometry, plan, out)
    assert plan.n_kept == 0 and read_state(out).n_cells == 0


def test_what_cannot_be_pruned_is_refused() -> None:
    part = handmade.attention(6)
    geometry = Case().geometry
    for data, reason in (
        (handmade.state(handmade.recurrent()), "recurrent"),
        (handmade.state(part, handmade.recurrent()), "partly recurrent"),
        (handmade.state(part, handmade.attention(3)), "sliding window"),
        (handmade.state(handmade.attention(6, has_v=False)), "latent attention"),
        (handmade.state(handmade.attention(6, ext=bytes(12))), "two dimensions"),
        (handmade.state(handmade.attention(6, n_layer=5)), "another model"),
    ):
        with pytest.raises(StateError, match=reason):
            check(read_state(data), geometry)


def test_names() -> None:
    assert policy("Expected-Attention").name == "expected_attention"
    with pytest.raises(UsageError, match="kvzip"):
        policy("magic")
    with pytest.raises(TypeError):
        type("Twice", (Policy,), {"name": "knorm", "title": "", "score": lambda self, layer: layer.k[..., 0]})


def test_knorm_keeps_small_keys_and_streaming_the_newest() -> None:
    case = Case(n_cells=50, type_k="f32", n_head_kv=1)
    layer = read_layer(case.state(), case.geometry, 0)
    norms = np.linalg.norm(layer.k[0], axis=1)
    assert policy("knorm").score(layer)[0].argmax() == norms.argmin()
    assert policy("streaming").score(layer)[0].argmax() == 49


def test_outlier_adds_the_ranks_that_its_two_ways_give_within_a_head() -> None:
    rng = np.random.default_rng(0)
    k = (rng.normal(size=64) + 0.05 * rng.normal(size=(2, 400, 64))).astype(np.float32)
    k[:, 7] *= -1  # unlike the others, and not spanned by them
    layer = Layer(k, k, np.arange(400, dtype=np.int32))
    found, *ways = (policy(name).score(layer) for name in ("outlier", "keydiff", "leverage"))
    for head in range(2):
        ranks = [
            {cell: rank for rank, cell in enumerate(np.argsort(way[head], kind="stable"))} for way in ways
        ]
        assert found[head].tolist() == [ranks[0][cell] + ranks[1][cell] for cell in range(400)]
        assert found[head].argmax() == 7


def seen_alike(n_cells: int = 400) -> Layer:
    """Cells that all got the same attention, with keys and values around a common one."""
    rng = np.random.default_rng(0)
    k, v = (
        (rng.normal(size=64) + 0.3 * rng.normal(size=(1, n_cells, 64))).astype(np.float32) for _ in range(2)
    )
    most = np.full((1, n_cells), 0.9, np.float32)
    return Layer(k, v, np.arange(n_cells, dtype=np.int32), seen=Seen(most, most, 9, 2))


def kvzip_rank(layer: Layer, cell: int) -> int:
    """The place of a cell in KVzip's order, 0 for the first to stay."""
    return int(np.flatnonzero(np.argsort(-policy("kvzip").score(layer)[0]) == cell)[0])


def test_kvzip_of_two_cells_with_the_same_attention_keeps_the_one_whose_value_adds_more() -> None:
    layer = seen_alike()
    common = layer.v[0].mean(axis=0)
    layer.v[0, 7] = common + 10 * (layer.v[0, 7] - common)
    assert kvzip_rank(layer, 7) == 0
    layer.v[0, 7] = common  # what any other cell adds as well, however large
    assert kvzip_rank(layer, 7) > 390


def test_kvzip_with_the_same_attention_and_values_goes_by_both_ways_to_look_at_keys() -> None:
    layer = seen_alike()
    layer.v[0] = np.eye(64, dtype=np.float32)[np.arange(400) % 64]  # all add about the same
    added = np.linalg.norm(layer.v[0] - layer.v[0].mean(axis=0), axis=1)
    unlike, unspanned = (policy(name).score(layer)[0] for name in ("keydiff", "leverage"))
    expected = added / added.mean() * 0.9 * (1 + unlike) * np.sqrt(unspanned)
    np.testing.assert_allclose(policy("kvzip").score(layer)[0], expected, rtol=1e-4)
    layer.k[0, 7] *= -1
    assert kvzip_rank(layer, 7) == 0


def test_kvzip_without_attention_keeps_nothing_for_its_value_or_key() -> None:
    layer = seen_alike()
    assert layer.seen is not None
    layer.v[0, 7] *= 10
    layer.k[0, 7] *= -1
    layer.seen.most[0, 7] = 0.0
    assert kvzip_rank(layer, 7) == 399


def test_kvzip_of_a_layer_with_large_values_counts_no_more_for_whole_tokens() -> None:
    small, large = seen_alike(), seen_alike()
    large.v *= 50
    np.testing.assert_allclose(policy("kvzip").score(small), policy("kvzip").score(large), rtol=1e-4)


def test_the_newest_tokens_take_little_of_little() -> None:
    """A quarter of 10% was a quarter of what every head could keep of all the text before."""
    assert [Request(keep).n_last(1300) for keep in (0.02, 0.1, 0.25, 0.5, 1.0)] == [1, 8, 20, 64, 64]
    assert Request(0.5).n_last(400) == 50


def test_a_head_that_ends_inside_a_block_is_written_again() -> None:
    case = Case(head_dim=16, n_head_kv=2, type_k="q8_0", type_v="f16", n_cells=20)
    before, after, _ = pruned(case, Request(0.5, last=2, first=0), "knorm")
    assert after.n_cells == 10
    old, new = (read_layer(s, case.geometry, 0).k for s in (before, after))
    for head in range(2):
        distance = np.abs(new[head][:, None] - old[head][None]).max(-1).min(1)
        assert (distance < 0.05).all()


def test_requests_that_make_no_sense() -> None:
    for keep in (0.0, -1.0, 1.5):
        with pytest.raises(ValueError, match="cannot be kept"):
            replace(Request(0.5), keep=keep)


@pytest.mark.parametrize("common_scale", [True, False])
def test_a_token_that_one_head_needs_stays_before_one_that_all_can_do_without(common_scale: bool) -> None:
    scores = np.full((8, 100), 0.01, np.float32)
    scores += np.linspace(0.001, 0.002, 100, dtype=np.float32)
    scores[:, 40] = 0.0116  # above most others, for every head
    scores[:, 7] = 0.0
    scores[3, 7] = 0.9
    scores[5, 60] = np.nan
    worth = agreed(scores, common_scale)
    assert worth[7] > worth[40] > worth[20]
    assert worth[60] < worth[59]
