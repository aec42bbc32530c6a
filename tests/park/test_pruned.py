"""Parking what a prune left: cells that hold another token in every head, or only some of the tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quantize.buffers import allocate
from quantize.geometry import Geometry
from quantize.park.auto import choose, for_mixed_cells
from quantize.park.codec import parse
from quantize.park.file import ParkReader
from quantize.park.parking import Cut, ModelFacts, park, unpark
from quantize.prune.policy import policy
from quantize.prune.prune import plan_prune, write_pruned
from quantize.prune.selection import Request
from quantize.state import SavedState, read_state
from tests.park.samples import facts_for, state_of

SHAPE = Geometry.uniform(3, 64, 64, 2)
F16, Q8_0 = 1, 8


@pytest.fixture
def facts() -> ModelFacts:
    return facts_for(SHAPE)


def pruned(facts: ModelFacts, *, per_head: bool) -> tuple[SavedState, list[int], Cut]:
    """A state of 600 tokens with a third of its cells."""
    state, tokens = state_of(facts, (600,))
    plan = plan_prune(state, SHAPE, policy("knorm"), Request(1 / 3, per_head=per_head))
    data = allocate(plan.size)
    write_pruned(state, SHAPE, plan, data)
    return read_state(data), tokens, Cut(600 - plan.n_kept, plan.whole_from, per_head)


@pytest.mark.parametrize("per_head", [True, False])
@pytest.mark.parametrize("codec", ["ggml:f16", "ggml:q8_0", "turboquant:4", "lowrank:0.1"])
def test_the_cells_come_back(facts: ModelFacts, tmp_path: Path, codec: str, per_head: bool) -> None:
    state, tokens, cut = pruned(facts, per_head=per_head)
    done = park(state, tokens, facts, parse(codec), tmp_path / "a.park", cut=cut, pins=("a", "ü"))
    assert done is not None and done.n_tokens == 600
    assert done.f16_bytes == 200 * 3 * 2 * 2 * 2 * 64
    with ParkReader(tmp_path / "a.park") as reader:
        about = reader.about
        assert Cut(about.n_gone, about.whole_from, about.composite) == cut
        assert (reader.pins, [int(t) for t in reader.tokens]) == (("a", "ü"), tokens)
        back = unpark(reader, facts, F16, F16, allocate)
    assert np.array_equal(back.positions(), state.positions())
    if codec == "ggml:f16":
        assert back.data.tobytes() == state.data.tobytes()
    for mine, theirs in zip(
        (*back.parts[0].k, *back.parts[0].v), (*state.parts[0].k, *state.parts[0].v), strict=True
    ):
        a, b = (s.rows(r).view(np.float16).astype(np.float32) for s, r in ((back, mine), (state, theirs)))
        assert np.sqrt(np.mean((a - b) ** 2)) < 0.12 * np.sqrt(np.mean(b**2))
    with ParkReader(tmp_path / "a.park") as reader:  # and into another type
        assert unpark(reader, facts, Q8_0, Q8_0, allocate).parts[0].k[0].type_id == Q8_0


def test_whole_tokens_can_be_told_from_their_neighbours(facts: ModelFacts, tmp_path: Path) -> None:
    """A codec that predicts from tokens knows which cell holds which, however many are missing."""
    state, tokens, cut = pruned(facts, per_head=False)
    park(state, tokens, facts, parse("learned:0.05"), tmp_path / "a.park", cut=cut)
    with ParkReader(tmp_path / "a.park") as reader:
        back = unpark(reader, facts, F16, F16, allocate)
    for mine, theirs in zip(back.parts[0].k, state.parts[0].k, strict=True):
        a, b = (s.rows(r).view(np.float16).astype(np.float32) for s, r in ((back, mine), (state, theirs)))
        assert np.sqrt(np.mean((a - b) ** 2)) < 0.1


def test_cells_of_several_tokens_get_a_codec_that_asks_for_none(facts: ModelFacts) -> None:
    assert choose("auto", facts).codec == "learned"
    step = choose("auto", facts).step
    assert for_mixed_cells(choose("auto", facts)) == parse(f"lowrank:{step}")
    for name in ("learned:0.03", "crosslayer:0.03", "lowrank:0.03"):
        assert for_mixed_cells(parse(name)) == parse("lowrank:0.03")
    for name in ("turboquant:2", "ggml:q4_0"):
        assert for_mixed_cells(parse(name)) == parse(name)
