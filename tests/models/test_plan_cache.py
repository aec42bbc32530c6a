"""The cache that the planner predicts is the cache that llama.cpp allocates, for every architecture."""

from __future__ import annotations

import pytest

from models.header import read_header
from models.plan import Planner
from quantize.cache_types import CachePair, parse_pair
from tests.models.real_context import Made, make_contexts
from tests.synthetic import MAKERS, SyntheticModels

PAIRS = tuple(
    parse_pair(p) for p in ("f16", "q8_0", "q8_0/q4_0", "q4_0", "bf16/q5_1", "iq4_nl/f16", "f32/nvfp4")
)
LENGTHS = (300, 2048, 16384)
"""At 16,384 cells one byte per cell is more than llama.cpp's log rounds off."""

MIB = 1 << 20


def settings(pair: CachePair, n_ctx: int, **more: int) -> dict[str, int]:
    """Arguments of a context."""
    return {"n_ctx": n_ctx, "type_k": pair.k.variants[0].id, "type_v": pair.v.variants[0].id, **more}


def check(planner: Planner, pair: CachePair, n_ctx: int, made: Made) -> None:
    """Compare one prediction with what was made."""
    assert made.refused == bool(planner.refusal(pair)), (pair.label, planner.refusal(pair))
    if made.refused:
        return
    assert made.decoded == 0
    predicted = planner.cache_bytes(pair, n_ctx) / MIB
    # Each buffer is rounded to .01 MiB, so together they may be off by half of that each.
    assert predicted == pytest.approx(sum(made.buffers_mib), abs=0.0051 * max(len(made.buffers_mib), 1)), (
        pair.label,
        n_ctx,
        made,
    )
    shape = planner.shape
    groups = [g for g in (shape.base, shape.sliding) if g]
    made_groups = [n for n in made.layers if n]
    assert made_groups == [len(g) for g in groups]


@pytest.mark.parametrize("name", MAKERS)
def test_cache_bytes_equal_those_of_real_contexts(synthetic: SyntheticModels, name: str) -> None:
    path = synthetic(name)
    planner = Planner(read_header(path))
    cases = [(pair, n_ctx) for pair in PAIRS for n_ctx in LENGTHS]
    results = make_contexts(path, [settings(pair, n_ctx) for pair, n_ctx in cases])
    for (pair, n_ctx), made in zip(cases, results, strict=True):
        check(planner, pair, n_ctx, made)
    usable = {pair.label for (pair, _), made in zip(cases, results, strict=True) if not made.refused}
    assert len(usable) >= (3 if planner.shape.mla else 5)
