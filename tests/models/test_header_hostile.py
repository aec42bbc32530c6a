"""Hostile headers through the reader and the planner: a plan, or one sentence."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.byte_source import MemorySource
from models.header import parse_header
from models.plan import Planner
from quantize.cache_types import PRESETS
from quantize.errors import ModelFileError, StretchError
from tests.models.header_mutations import Endless, header_of, mutate, plausible

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.gguf"))


def try_header(data: bytes) -> bool:
    """Whether there is a plan. Anything but a StretchError is a fault."""
    try:
        header = parse_header(Endless(data))
    except ModelFileError as error:
        assert error.message.count("\n") == 0 and len(error.message) < 400
        return False
    try:
        planner = Planner(header)
        rows = planner.stretch_table(n_ctx=4096, budget=8 << 30)
    except StretchError as error:
        assert len(error.message) < 400
        return False
    for pair, row in zip(PRESETS, rows, strict=True):
        assert 0 <= row.max_ctx <= row.max_ctx_memory
        if row.refused:
            continue
        if row.max_ctx_memory:
            assert planner.plan(pair, row.max_ctx_memory).total <= 8 << 30
        assert planner.plan(pair, 8192).total > 0
    return True


@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.stem)
def test_what_the_fuzzing_found(path: Path) -> None:
    try_header(path.read_bytes())


def test_most_headers_of_the_generator_are_right_before_they_are_changed() -> None:
    """Otherwise the mutations would only try the first few checks."""
    planned = sum(try_header(plausible(Random(seed)).build()) for seed in range(200))
    assert planned > 120


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_mutated_headers(seed: int) -> None:
    try_header(header_of(seed))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_right_headers_cut_off_anywhere(seed: int, data: st.DataObject) -> None:
    """A proper beginning of a header is never a header."""
    whole = plausible(Random(seed)).header()
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ModelFileError):
        parse_header(MemorySource(whole[:cut]))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_behind_the_magic(data: bytes) -> None:
    with pytest.raises(ModelFileError):
        parse_header(MemorySource(b"GGUF" + data))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_the_window_does_not_change_what_is_read(seed: int) -> None:
    """A source that gives few bytes at a time leads to the same header or the same refusal."""

    class Stingy(Endless):
        def read_at(self, offset: int, n: int) -> bytes:
            return super().read_at(offset, min(n, 1 + offset % 7))

    data = mutate(plausible(Random(seed)).build(), Random(seed + 1))

    def outcome(source: MemorySource) -> object:
        try:
            return parse_header(source)
        except ModelFileError as error:
            return error.message

    assert outcome(Stingy(data)) == outcome(Endless(data))
