"""The cache that the planner predicts is the cache that llama.cpp allocates, for every architecture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.header import read_header
from models.plan import MAX_CTX, Planner
from quantize.cache_types import CachePair, parse_pair
from tests.models.conftest import Measured, settings
from tests.models.real_context import Made, make_contexts
from tests.synthetic import MAKERS, SyntheticModels

MIB = 1 << 20


def check(planner: Planner, pair: CachePair, n_ctx: int, made: Made) -> None:
    """Compare one prediction with what was made."""
    assert made.refused == bool(planner.refusal(pair)), (pair.label, planner.refusal(pair))
    if made.refused:
        return
    assert made.decoded == 0
    predicted = planner.cache_bytes(pair, n_ctx) / MIB
    # Each buffer is rounded to .01 MiB, so together they may be off by half of that each.
    rounding = 0.0051 * max(len(made.buffers_mib), 1)
    assert predicted == pytest.approx(sum(made.buffers_mib), abs=rounding), (pair.label, n_ctx, made)
    shape = planner.shape
    assert [n for n in made.layers if n] == [len(g) for g in (shape.base, shape.sliding) if g]


@pytest.mark.parametrize("name", MAKERS)
def test_cache_bytes_equal_those_of_real_contexts(name: str, measured: Callable[[str], Measured]) -> None:
    model = measured(name)
    planner = Planner(read_header(model.path))
    for (pair, n_ctx), made in model.contexts.items():
        check(planner, pair, n_ctx, made)
    usable = {pair.label for (pair, _), made in model.contexts.items() if not made.refused}
    assert len(usable) >= (3 if planner.shape.mla else 5)


Variant = tuple[str, dict[str, Any], dict[str, int]]

VARIANTS: dict[str, Variant] = {
    # What the model is, and what the context is made with.
    "window longer than the context": ("gemma2", {"n_swa": 4096}, {}),
    "a pattern that ends in its middle": ("gemma3", {"n_layer": 8}, {}),
    "a pattern that does not come to its end": ("gemma2", {"n_layer": 1}, {}),
    "window of an odd length": ("gemma3", {"n_swa": 333}, {}),
    "pattern as a number": ("gemma3", {"keys": {"attention.sliding_window_pattern": 2}}, {}),
    "pattern 0: every layer slides": ("gemma3", {"keys": {"attention.sliding_window_pattern": 0}}, {}),
    "pattern as a list": (
        "gpt-oss",
        {"keys": {"attention.sliding_window_pattern": [True, True, False, True]}},
        {},
    ),
    "no layers that share": ("gemma4", {"n_shared": 0, "per_layer": 0}, {}),
    "no window": ("gemma3", {"n_swa": 0}, {}),
    "no window in olmo2": ("olmo2", {"n_swa": 0}, {}),
    "lfm2 with a window": ("lfm2", {"keys": {"attention.sliding_window": 256}}, {}),
    "small batches": ("gemma2", {}, {"n_ubatch": 64, "n_batch": 64}),
    "several sequences": ("llama", {}, {"n_seq_max": 3, "n_outputs_max": 3}),
    "several sequences with a window": ("gemma2", {}, {"n_seq_max": 4, "n_outputs_max": 4}),
    "states of many sequences, mamba": ("mamba", {}, {"n_seq_max": 64, "n_outputs_max": 64}),
    "states of many sequences, granitehybrid": ("granitehybrid", {}, {"n_seq_max": 64, "n_outputs_max": 64}),
    "states of many sequences, lfm2": ("lfm2", {}, {"n_seq_max": 64, "n_outputs_max": 64}),
    "states of many sequences, qwen35": ("qwen35", {}, {"n_seq_max": 64, "n_outputs_max": 64}),
    "states of many sequences, falcon-h1": ("falcon-h1", {}, {"n_seq_max": 64, "n_outputs_max": 64}),
    "attention every second layer": ("qwen35", {"interval": 2}, {}),
    "one KV head": ("llama", {"n_head_kv": 1}, {}),
    "heads of 80": ("llama", {"head_dim": 80}, {}),
    "heads of 96": ("llama", {"head_dim": 96}, {}),
    "heads of 256": ("qwen3", {"head_dim": 256}, {}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(synthetic: SyntheticModels, variant: str) -> None:
    name, model, context = VARIANTS[variant]
    path = synthetic(name, **model)
    n_seq_max = context.get("n_seq_max", 1)
    planner = Planner(read_header(path), n_ubatch=context.get("n_ubatch", 512), n_seq_max=n_seq_max)
    cases = [(parse_pair(p), n_ctx) for p in ("f16", "q8_0/q4_0") for n_ctx in (512, 9000)]
    results = make_contexts(path, [settings(pair, n_ctx, fill=4, **context) for pair, n_ctx in cases])
    for (pair, n_ctx), made in zip(cases, results, strict=True):
        check(planner, pair, n_ctx, made)


def test_a_window_that_llama_cpp_ignores_saves_nothing(synthetic: SyntheticModels) -> None:
    pair = parse_pair("f16")
    plain = Planner(read_header(synthetic("llama"))).cache_bytes(pair, 4096)
    assert Planner(read_header(synthetic("mistral"))).cache_bytes(pair, 4096) == plain


def test_a_sliding_window_stops_growing(synthetic: SyntheticModels) -> None:
    planner = Planner(read_header(synthetic("gemma3")))
    pair = parse_pair("f16")
    one_layer = planner.bytes_per_token(pair)
    assert one_layer == 2 * 64 * 2  # K and V of the one layer of six that sees everything
    assert planner.cache_bytes(pair, 8192) - planner.cache_bytes(pair, 4096) == 4096 * one_layer


def test_shape_for_the_transcoder(synthetic: SyntheticModels) -> None:
    geometry = Planner(read_header(synthetic("gemma4"))).shape.geometry()
    assert [[h.head_dim_k for h in part] for part in geometry.parts] == [[128], [64, 64]]
    assert geometry.first.head_dim_k == 64
    flat = Planner(read_header(synthetic("qwen3"))).shape.geometry()
    assert [[(h.head_dim_k, h.n_head_kv) for h in part] for part in flat.parts] == [[(128, 1)] * 2]


def test_paths_are_not_needed_twice(tmp_path: Path, synthetic: SyntheticModels) -> None:
    """The same parameters give the same file, byte for byte."""
    again = SyntheticModels(tmp_path)("gemma3")
    assert again.read_bytes() == synthetic("gemma3").read_bytes()


def test_an_exact_window_costs_its_rows(synthetic: SyntheticModels) -> None:
    planner = Planner(read_header(synthetic("llama")))
    pair = parse_pair("q8_0/q4_0")
    row = (4 + 2 * 128 + 136) + (4 + 2 * 128 + 72)  # K and V of two heads of 64: cell, f16, packed
    assert planner.tail_bytes(pair, 0) == 0
    assert planner.tail_bytes(pair, 300) - planner.tail_bytes(pair, 100) == 200 * 2 * row
    assert planner.cache_bytes(pair, 4096, tail=256) == planner.cache_bytes(pair, 4096) + planner.tail_bytes(
        pair, 256
    )
    assert planner.max_ctx(pair, 200 << 20, tail=4096) < planner.max_ctx(pair, 200 << 20)


def test_max_ctx_is_the_longest_that_fits(synthetic: SyntheticModels) -> None:
    """One step more does not fit any more, for budgets all over the place."""
    for name in ("llama", "gemma2", "qwen35", "mamba"):
        planner = Planner(read_header(synthetic(name)))
        for label in ("f16", "q8_0/q4_0"):
            pair = parse_pair(label)
            for budget in (10 << 20, 60 << 20, 77_777_777, 1 << 30, 20 << 30):
                longest = planner.max_ctx(pair, budget)
                assert longest % 256 == 0
                assert longest == 0 or planner.plan(pair, longest).total <= budget
                assert longest == MAX_CTX or planner.plan(pair, longest + 256).total > budget
                row = planner.row(pair, n_ctx=4096, budget=budget)
                assert row.max_ctx == min(longest, planner.shape.n_ctx_train)
                assert row.limit == ("memory" if longest < planner.shape.n_ctx_train else "trained")
