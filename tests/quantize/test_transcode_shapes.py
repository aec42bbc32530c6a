"""Transcoding for any shape of model: hand-made states against ggml's own operations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantize import ggml
from quantize.errors import CacheTypeError
from quantize.geometry import Geometry, LayerHeads
from quantize.rotation import rotation_k, rotation_v
from quantize.state import Part, SavedState, read_state
from quantize.transcode import transcode, transcoded_size
from tests.quantize.conftest import equal, meaningful, type_ids
from tests.quantize.ggml_graph import rewrite
from tests.quantize.handmade import state, with_rows

HEAD_DIMS = st.sampled_from([32, 64, 96, 128, 192, 256, 512, 576])


@dataclass(frozen=True)
class Case:
    """A model's shape, the cells of its caches, and the types before and after."""

    geometry: Geometry
    n_cells: tuple[int, ...]
    before: tuple[int, int]
    after: tuple[int, int]
    ext: bool
    seed: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    parts = []
    for _ in range(draw(st.integers(1, 2))):
        dim_k, dim_v = draw(HEAD_DIMS), draw(HEAD_DIMS)
        heads = st.integers(1, 3).map(lambda n, k=dim_k, v=dim_v: LayerHeads(k, v, n))
        uneven = st.tuples(HEAD_DIMS, HEAD_DIMS, st.integers(0, 2)).map(lambda x: LayerHeads(*x))
        layers = st.lists(uneven if draw(st.integers(0, 4)) == 0 else heads, min_size=1, max_size=3)
        parts.append(tuple(draw(layers)))
    dims_k = {h.head_dim_k for part in parts for h in part}
    dims_v = {h.head_dim_v for part in parts for h in part}
    k = st.sampled_from([*type_ids(int(np.gcd.reduce(list(dims_k)))).values()])
    v = st.sampled_from([*type_ids(int(np.gcd.reduce(list(dims_v)))).values()])
    return Case(
        Geometry(tuple(parts), draw(st.sampled_from(parts))[0]),
        tuple(draw(st.integers(0, 9)) for _ in parts),
        (draw(k), draw(v)),
        (draw(k), draw(v)),
        draw(st.booleans()),
        draw(st.integers(0, 2**32 - 1)),
    )


def random_rows(rng: np.random.Generator, type_id: int, n_cells: int, n_values: int) -> NDArray[np.uint8]:
    fmt = ggml.row_format(type_id)
    values = rng.standard_normal((n_cells, n_values), dtype=np.float32)
    values *= np.exp(rng.standard_normal(n_values)).astype(np.float32)  # channels differ, as in K
    out = np.empty((n_cells, fmt.row_size(n_values)), np.uint8)
    if out.size:
        ggml.quantize(fmt, values, out)
    return out


def build(case: Case) -> SavedState:
    rng = np.random.default_rng(case.seed)
    type_k, type_v = case.before
    return read_state(
        state(
            *(
                with_rows(
                    n,
                    [random_rows(rng, type_k, n, h.n_embd_k) for h in layers],
                    [random_rows(rng, type_v, n, h.n_embd_v) for h in layers],
                    type_k,
                    type_v,
                    ext=b"\1\0\0\0\2\0\0\0\3\0\0\0" if case.ext else b"",
                )
                for layers, n in zip(case.geometry.parts, case.n_cells, strict=True)
            )
        )
    )


@settings(max_examples=80, deadline=None)
@given(cases())
def test_rows_of_any_shape_are_those_that_ggml_writes(case: Case) -> None:
    source = build(case)
    out = np.empty(transcoded_size(source, case.geometry, *case.after), np.uint8)
    try:
        assert transcode(source, case.geometry, *case.after, out)
    except CacheTypeError:  # layer 0 lets llama.cpp rotate rows that its blocks do not divide
        assert any(h.n_embd_k % 64 or h.n_embd_v % 64 for part in case.geometry.parts for h in part)
        return
    made = read_state(out)
    for before, after, layers in zip(source.parts, made.parts, case.geometry.parts, strict=True):
        assert after.n_cells == before.n_cells
        check_part(case, source, made, before, after, layers)


def check_part(
    case: Case,
    source: SavedState,
    made: SavedState,
    before: Part,
    after: Part,
    layers: tuple[LayerHeads, ...],
) -> None:
    first = case.geometry.first
    for side in ("k", "v"):
        dims = {getattr(h, f"head_dim_{side}") for h in layers}
        rule = rotation_k if side == "k" else rotation_v
        first_dim = getattr(first, f"head_dim_{side}")
        old, new = getattr(before, side), getattr(after, side)
        for heads, a, b in zip(layers if before.n_cells else (), old, new, strict=True):
            n_values = getattr(heads, f"n_embd_{side}")
            if n_values == 0:
                continue
            sizes = {rule(ggml.row_format(r.type_id).quantized, dims, first_dim) for r in (a, b)}
            turn = max(sizes) if len(sizes) == 2 else 0
            expected = rewrite(source.rows(a), a.type_id, b.type_id, n_values, turn)
            assert equal(meaningful(made.rows(b), b.type_id), meaningful(expected, b.type_id))
