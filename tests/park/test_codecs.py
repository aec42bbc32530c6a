"""Every codec over every shape of a cache. A codec joins by being registered."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantize.buffers import allocate
from quantize.cache_types import parse_pair
from quantize.errors import CacheTypeError, StateError, UsageError
from quantize.geometry import Geometry, LayerHeads
from quantize.native import register_types
from quantize.park import names, rans
from quantize.park.auto import choose
from quantize.park.codec import CODECS, Setting, exact_cells, parse, spans
from quantize.park.file import ParkReader
from quantize.park.parking import ModelFacts, park, unpark
from quantize.park.plain import SIDES, Source
from quantize.state import SavedState
from tests.native.row_types import UseIsa, available_isas
from tests.park.samples import facts_for, state_of

F32, F16, Q8_0 = 0, 1, 8

HEADS = LayerHeads(64, 64, 2)
SHAPES: dict[str, tuple[Geometry, tuple[int, ...]]] = {
    "head_dim 64": (Geometry.uniform(3, 64, 64, 2), (300,)),
    "head_dim 128, one layer": (Geometry.uniform(1, 128, 128, 1), (300,)),
    "head_dim 256": (Geometry.uniform(2, 256, 256, 1), (90,)),
    "8 heads of K and V": (Geometry.uniform(2, 64, 64, 8), (100,)),
    "K and V of unequal sizes": (Geometry.uniform(2, 128, 64, 1), (100,)),
    "one token": (Geometry.uniform(2, 64, 64, 1), (1,)),
    "only exact tokens": (Geometry.uniform(2, 64, 64, 1), (12,)),
    "nothing": (Geometry.uniform(2, 64, 64, 1), (0,)),
    "a sliding window": (Geometry.sliding([(HEADS, i % 2 == 0) for i in range(4)]), (200, 64)),
    "longer than a block": (Geometry.uniform(1, 64, 64, 1), (3400,)),
}

FINE = {
    "ggml": [("ggml:f16", 1e-3), ("ggml:q8_0", 0.02), ("ggml:q4_0", 0.2)],
    "turboquant": [(f"turboquant:{b}", e) for b, e in ((1, 0.7), (2, 0.45), (3, 0.25), (4, 0.13))],
    "lowrank": [("lowrank:0.02", 0.06), ("lowrank:0.1", 0.35)],
    "crosslayer": [("crosslayer:0.02", 0.06)],
    "learned": [("learned:0.02", 0.06)],
}
"""Settings of each codec, and the largest relative error that each may make."""


def cases() -> Iterator[tuple[str, str, float]]:
    for name in CODECS:
        for setting, error in FINE.get(name, [(name, 0.5)]):
            for shape in SHAPES:
                yield shape, setting, error


def there_and_back(
    state: SavedState, tokens: list[int], facts: ModelFacts, setting: str, path: Path, types: tuple[int, int]
) -> SavedState:
    assert park(state, tokens, facts, parse(setting), path) is not None
    with ParkReader(path) as reader:
        assert list(reader.tokens) == tokens
        return unpark(reader, facts, *types, allocate)


def relative_error(a: Source, b: Source) -> float:
    """Root mean square of the difference, in units of that of the values."""
    wrong = there = 0.0
    for p, layers in enumerate(a.frame.geometry.parts):
        for layer in range(len(layers)):
            for side in SIDES:
                x, y = (s.plain(p, layer, side, 0, s.n_cells(p)) for s in (a, b))
                wrong += float(np.square(x - y).sum())
                there += float(np.square(x).sum())
    return (wrong / there) ** 0.5 if there else 0.0


@pytest.mark.parametrize(("shape", "setting", "most"), list(cases()))
def test_there_and_back(shape: str, setting: str, most: float, tmp_path: Path) -> None:
    geometry, n_cells = SHAPES[shape]
    facts = facts_for(geometry)
    chosen = parse(setting)
    if CODECS[chosen.codec].obstacle(facts.frame, chosen):
        pytest.skip("not for this shape")
    state, tokens = state_of(facts, n_cells)
    back = there_and_back(state, tokens, facts, setting, tmp_path / "a.park", (F16, F16))
    before, after = Source(state, facts.frame), Source(back, facts.frame)
    assert relative_error(before, after) <= most
    for p, n in enumerate(n_cells):
        assert list(after.positions(p)) == list(before.positions(p))
        first, last = exact_cells(n)
        for layer in range(len(geometry.parts[p])):
            for side in SIDES:
                for a, b in ((0, first), (n - last, n)):
                    same = before.raw(p, layer, side, a, b) == after.raw(p, layer, side, a, b)
                    assert n == 0 or same.all()


@pytest.mark.parametrize("setting", ["ggml:q8_0", "turboquant:4", "learned:0.02"])
@pytest.mark.parametrize("source", ["f16", "q8_0", "q4_0"])
@pytest.mark.parametrize("target", ["f32", "f16", "q8_0", "q5_1", "tq4"])
def test_into_any_type_from_any_type(setting: str, source: str, target: str, tmp_path: Path) -> None:
    if target == "tq4" and not register_types().ok:
        pytest.skip("the native types are not there")
    facts = facts_for(Geometry.uniform(2, 128, 128, 1), halves=True)
    ids_source = parse_pair(source).type_ids({128}, {128})
    ids_target = parse_pair(target).type_ids({128}, {128})
    state, tokens = state_of(facts, (150,), *ids_source)
    back = there_and_back(state, tokens, facts, setting, tmp_path / "a.park", ids_target)
    before, after = Source(state, facts.frame), Source(back, facts.frame)
    assert after.rows(0, 0, "k").type_id == ids_target[0]
    assert relative_error(before, after) < 0.2


def test_what_is_fine_enough_is_smaller_than_f16(tmp_path: Path) -> None:
    facts = facts_for(Geometry.uniform(2, 128, 128, 1))
    state, tokens = state_of(facts, (1500,))
    sizes = {}
    for setting in ("ggml:q8_0", "turboquant:4", "turboquant:3", "lowrank:0.2"):
        parked = park(state, tokens, facts, parse(setting), tmp_path / "a.park")
        assert parked is not None
        assert parked.n_bytes == (tmp_path / "a.park").stat().st_size
        sizes[setting] = parked.ratio
    assert 1.8 < sizes["ggml:q8_0"] < 1.9
    assert 3.5 < sizes["turboquant:4"] < sizes["turboquant:3"]
    assert sizes["lowrank:0.2"] > 2


def test_stopping_leaves_no_file(tmp_path: Path) -> None:
    facts = facts_for(Geometry.uniform(2, 64, 64, 1))
    state, tokens = state_of(facts, (300,))
    calls = iter(range(100))
    stopped = park(state, tokens, facts, parse("learned"), tmp_path / "a", stopped=lambda: next(calls) > 5)
    assert stopped is None
    assert list(tmp_path.iterdir()) == []


@given(n=st.integers(0, 9000))
def test_spans_cover_what_is_not_exact_once_and_in_order(n: int) -> None:
    first, last = exact_cells(n)
    at = first
    for span in spans(n):
        assert span.start == at < span.end
        at = span.end
    assert at == max(first, n - last)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 30),
    n=st.integers(1, 70),
    c=st.integers(1, 9),
    width=st.floats(0.001, 1e6),
    heavy=st.booleans(),
)
def test_numbers_come_back_as_they_were(seed: int, n: int, c: int, width: float, heavy: bool) -> None:
    rng = np.random.default_rng(seed)
    y = rng.standard_cauchy((c, n)) if heavy else rng.normal(size=(c, n))
    z = rans.quantize(np.clip(y * width, -1e30, 1e30).astype(np.float32), 1.0)
    table, shift, _ = rans.choose(z)
    assert (rans.decode(rans.encode(z, table, shift), n, table, shift) == z).all()


def test_numbers_that_are_none_do_no_harm() -> None:
    y = np.array([[np.nan, np.inf], [-np.inf, 1e38]], np.float32)
    z = rans.quantize(y, 1e-3)
    table, shift, _ = rans.choose(z)
    assert (rans.decode(rans.encode(z, table, shift), 2, table, shift) == z).all()


def test_code_that_was_changed_never_breaks_the_decoder() -> None:
    rng = np.random.default_rng(0)
    z = rans.quantize((rng.standard_cauchy((7, 50)) * 20).astype(np.float32), 1.0)
    table, shift, _ = rans.choose(z)
    code = rans.encode(z, table, shift)
    for _ in range(500):
        changed = bytearray(code)
        for _ in range(int(rng.integers(1, 4))):
            changed[rng.integers(len(changed))] = rng.integers(256)
        cut = bytes(changed[: rng.integers(len(changed) + 1)]) if rng.random() < 0.5 else bytes(changed)
        try:
            again = rans.decode(cut, 50, table, shift)
        except StateError:
            continue
        assert np.abs(again).max() <= 1 << 30


def test_a_dead_zone_and_its_reconstruction_lose_little() -> None:
    """Close to the rate-distortion bound: within 0.4 bits, the header among them."""
    y = np.random.default_rng(1).normal(size=(1, 4000)).astype(np.float32)
    for step in (0.25, 0.5, 1.0, 1.5):
        z = rans.quantize(y, step)
        table, shift, _ = rans.choose(z)
        bits = 8 * len(rans.encode(z, table, shift)) / y.size
        distortion = float(np.mean(np.square(rans.dequantize(z, step, table, shift) - y)))
        assert bits < 0.5 * np.log2(1 / distortion) + 0.4, step


def made_up_components() -> NDArray[np.float32]:
    """Of every width, from narrow to one that is shifted, by whole numbers alone; shape (40, 331)."""
    c, i = np.arange(40)[:, None], np.arange(331)[None]
    spread = (c * 7919 + i * 104729 + c * i * 31) % 2003 - 1001
    return np.ascontiguousarray((spread**3 // 1001) * (1 << c // 3) / 2**24, np.float32)


@pytest.mark.parametrize("isa", available_isas())
def test_the_code_of_a_version_does_not_change(isa: str) -> None:
    """Whoever changes these bytes has to change ``file.VERSION``, or parked conversations are lost."""
    with UseIsa(isa):
        z = rans.quantize(made_up_components(), 0.3)
        table, shift, _ = rans.choose(z)
        code = rans.encode(z, table, shift)
    assert 0 < np.count_nonzero(shift) < len(shift)
    assert len(np.unique(table)) > 9
    whole = z.tobytes() + table.tobytes() + shift.tobytes() + code
    assert hashlib.blake2b(whole, digest_size=8).hexdigest() == "86fe9ad551da5f30"


def blocks_of(path: Path) -> bytes:
    """All blocks of a file, without its header, which says when it was written."""
    found: list[bytes] = []
    with ParkReader(path) as reader, contextlib.suppress(StateError):  # that the blocks have ended
        found.extend(reader.blocks())
    return b"".join(found)


@pytest.mark.parametrize("setting", ["learned:0.05", "crosslayer:0.05"])
def test_every_vector_unit_writes_the_same_file(setting: str, tmp_path: Path) -> None:
    facts = facts_for(Geometry.uniform(2, 64, 64, 2))
    state, tokens = state_of(facts, (500,))
    blocks = set()
    for isa in available_isas()[1:]:  # the portable one has no fused multiply-add
        with UseIsa(isa):
            park(state, tokens, facts, parse(setting), tmp_path / "a.park")
        blocks.add(blocks_of(tmp_path / "a.park"))
    assert len(blocks) <= 1


def test_names_are_those_of_the_codecs() -> None:
    assert set(names.NAMES) == {"auto", *CODECS}
    for text in ("learned:0.05", "ggml:q4_0", "turboquant:2", "lowrank"):
        assert names.check_name(text) == text
        assert parse(parse(text).label) == parse(text)
    for text in ("", "zip", "turboquant:9", "learned:q8_0", "ggml:0.5", "lowrank:nan", "ggml:nothing"):
        with pytest.raises(UsageError):
            parse(text)


def test_auto_takes_the_smallest_that_is_good_enough() -> None:
    facts = facts_for(Geometry.uniform(1, 64, 64, 1))
    assert choose("auto", facts, 0.004) == Setting("learned", 0.1)
    between = choose("auto", facts, 0.001)
    assert between.codec == "learned"
    assert 0.02 < between.step < 0.1
    assert choose("auto", facts, 0.00001) == Setting("ggml", type_name="q8_0")
    assert facts.profile is not None
    rounding = replace(facts, profile=replace(facts.profile, floor=0.0035))
    assert choose("auto", rounding, 0.0005) == Setting("learned", 0.1)  # .004 is .0005 above the floor
    bare = ModelFacts(facts.fingerprint, facts.frame)
    assert choose("auto", bare, 0.004) == Setting("turboquant", 4.0)
    with pytest.raises(UsageError):
        choose("learned", bare)


def test_a_type_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    facts = facts_for(Geometry.uniform(1, 80, 80, 1))
    state, tokens = state_of(facts, (40,))
    with pytest.raises(CacheTypeError):
        park(state, tokens, facts, parse("ggml:q4_0"), tmp_path / "a.park")
    assert list(tmp_path.iterdir()) == []
