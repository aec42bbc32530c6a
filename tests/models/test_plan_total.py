"""The resident size that the planner predicts is that of a process which does what the engine does."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.header import read_header
from models.plan import Planner
from models.resolve import resolve
from quantize.cache_types import parse_pair
from tests.models.real_context import make_contexts
from tests.synthetic import MAKERS, SyntheticModels

MIB = 1 << 20
TOLERANCE = 32 * MIB


def check_total(path: Path, label: str, n_ctx: int, *, fill: int, repack: bool = True) -> None:
    """Compare the prediction with a fresh process that loads, makes one context and fills it."""
    pair = parse_pair(label)
    context = {
        "n_ctx": n_ctx,
        "type_k": pair.k.variants[0].id,
        "type_v": pair.v.variants[0].id,
        "n_batch": 512,
    }
    (made,) = make_contexts(path, [context], fill=fill, repack=repack)
    assert not made.refused
    plan = Planner(read_header(path), repack=repack).plan(pair, n_ctx)
    print(f"{path.name} {label} {n_ctx}: predicted {plan.total / MIB:.1f}, resident {made.rss / MIB:.1f} MiB")
    assert abs(plan.total - made.rss) <= max(0.03 * made.rss, TOLERANCE), (plan, made)


@pytest.mark.parametrize("name", MAKERS)
def test_synthetic_models(synthetic: SyntheticModels, name: str) -> None:
    check_total(synthetic(name), "q8_0", 8192, fill=600)


@pytest.mark.parametrize("label", ["f16", "q8_0/q4_0"])
def test_built_in_model(label: str) -> None:
    check_total(resolve("builtin"), label, 8192, fill=1024)


@pytest.mark.parametrize("repack", [True, False])
def test_larger_model_with_a_second_copy_of_its_weights(synthetic: SyntheticModels, repack: bool) -> None:
    path = synthetic(
        "llama",
        n_layer=12,
        n_embd=1024,
        n_head=8,
        n_head_kv=4,
        head_dim=128,
        n_ff=4096,
        n_vocab=32_000,
        weight_type="q4_0",
        hollow=True,
    )
    check_total(path, "f16", 8192, fill=512, repack=repack)
