"""Transcoding, compared byte for byte with what ggml and the engine write themselves."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from quantize import ggml
from quantize.buffers import allocate
from quantize.cache_types import CACHE_TYPES
from quantize.errors import CacheTypeError, StateError
from quantize.geometry import Geometry, LayerHeads
from quantize.llama import Context
from quantize.rotation import rotation_k, rotation_v
from quantize.state import MAGIC, SavedState, read_state
from quantize.transcode import state_size, transcode, transcoded_size, working_bytes
from tests.quantize.conftest import Engine, equal, meaningful, save, type_ids
from tests.quantize.ggml_graph import rewrite

F32, F16, Q8_0, Q4_0 = 0, 1, 8, 2

SHAPES = [
    pytest.param({"head_dim": d, "n_head": 4, "n_head_kv": kv}, id=f"head{d}-gqa{4 // kv}")
    for d, kv in ((64, 2), (128, 1), (256, 4), (96, 2))
]


def turn_between(head_dim: int, side: str, type_from: int, type_to: int) -> int:
    """The rotation that lies between two types, from the rule alone."""
    rule = rotation_k if side == "k" else rotation_v
    sizes = {rule(ggml.row_format(t).quantized, [head_dim], head_dim) for t in (type_from, type_to)}
    return max(sizes) if len(sizes) == 2 else 0


def assert_rewritten(
    engine: Engine, source: SavedState, target: SavedState, type_k: int, type_v: int
) -> None:
    """Every row of ``target`` is the one that ggml writes from ``source``'s."""
    assert len(source.parts) == len(target.parts)
    for before, after, layers in zip(source.parts, target.parts, engine.geometry.parts, strict=True):
        assert equal(
            source.data[before.cells_offset :][: before.n_cells * before.cell_size],
            target.data[after.cells_offset :][: after.n_cells * after.cell_size],
        )
        assert len(after.k) == len(after.v) == len(layers)
        for heads, old_k, new_k, old_v, new_v in zip(
            layers, before.k, after.k, before.v, after.v, strict=True
        ):
            assert (new_k.type_id, new_v.type_id) == (type_k, type_v)
            turn = turn_between(heads.head_dim_k, "k", old_k.type_id, type_k)
            expected = rewrite(source.rows(old_k), old_k.type_id, type_k, heads.n_embd_k, turn)
            assert equal(meaningful(target.rows(new_k), type_k), meaningful(expected, type_k))
            turn = turn_between(heads.head_dim_v, "v", old_v.type_id, type_v)
            expected = rewrite(source.rows(old_v), old_v.type_id, type_v, heads.n_embd_v, turn)
            assert equal(meaningful(target.rows(new_v), type_v), meaningful(expected, type_v))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_pair_equals_what_ggml_writes(engine: Callable[..., Engine], shape: dict[str, int]) -> None:
    """f16 -> A -> B for every ordered pair, all layers, K in one direction and V in the other."""
    e = engine(**shape)
    ids = type_ids(shape["head_dim"])
    source = e.state(F16, F16, 21)
    first = {a: e.transcoded(source, a, a) for a in ids.values()}
    for a in ids.values():
        assert_rewritten(e, source, first[a], a, a)
        for b in ids.values():
            assert_rewritten(e, first[a], e.transcoded(first[a], b, a), b, a)
            assert_rewritten(e, first[a], e.transcoded(first[a], a, b), a, b)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_equal_those_that_a_real_context_wrote(
    engine: Callable[..., Engine], shape: dict[str, int]
) -> None:
    """K and V of layer 0 depend on the tokens alone, so they are the same values in every context.

    From f32, which holds them unrounded, transcoding must give the bytes that a context of the
    target type has written itself.
    """
    e = engine(**shape)
    exact = e.state(F32, F32, 40)
    for name, type_id in type_ids(shape["head_dim"]).items():
        native = e.state(type_id, type_id, 40)
        made = e.transcoded(exact, type_id, type_id)
        assert made.data.size == native.data.size
        for side in ("k", "v"):
            written = native.rows(getattr(native.parts[0], side)[0])
            assert equal(made.rows(getattr(made.parts[0], side)[0]), written), (name, side)


def test_mixed_types_and_sizes_are_predicted(engine: Callable[..., Engine]) -> None:
    e = engine(head_dim=64, n_head=4, n_head_kv=2)
    source = e.state(F16, F16, 21)
    ids = list(type_ids(64).values())
    for k in ids:
        for v in (F16, Q8_0, Q4_0):
            made = e.transcoded(source, k, v)
            assert made.data.size == state_size(e.geometry, [21], k, v)
            with e.context(k, v) as context:
                assert context.load_state(made.data)
                assert context.last_position() == 20
                assert equal(save(context).data, made.data)


@pytest.mark.parametrize("name", ["q8_0", "q5_0", "q4_0", "f16", "bf16"])
def test_going_up_and_coming_back_changes_nothing(engine: Callable[..., Engine], name: str) -> None:
    """Values that a type has rounded are levels of its own: f32 and back finds the same bytes."""
    e = engine(head_dim=128, n_head=4, n_head_kv=2)
    type_id = type_ids(128)[name]
    rounded = e.transcoded(e.state(F16, F16, 21), type_id, type_id)
    assert equal(e.transcoded(e.transcoded(rounded, F32, F32), type_id, type_id).data, rounded.data)


def test_empty_sequence(engine: Callable[..., Engine]) -> None:
    e = engine()
    with e.context(F16, F16) as context:
        empty = save(context)
    made = e.transcoded(empty, Q8_0, Q4_0)
    with e.context(Q8_0, Q4_0) as context:
        assert context.load_state(made.data)
        assert context.last_position() == -1


@pytest.mark.parametrize("type_k", [F16, F32, Q8_0])
@pytest.mark.parametrize("type_v", [F16, F32])
def test_without_flash_attention(engine: Callable[..., Engine], type_k: int, type_v: int) -> None:
    """V is stored as columns there; both directions give the rows of the other orientation."""
    e = engine(head_dim=64, n_head=4, n_head_kv=2)
    rows = e.state(type_k, type_v, 37)
    columns = np.empty(rows.data.size, np.uint8)
    assert transcode(rows, e.geometry, type_k, type_v, columns, flash_attention=False)
    with Context(
        e.model, n_ctx=512, type_k=type_k, type_v=type_v, n_ubatch=64, flash_attention=False
    ) as context:
        assert context.load_state(columns)
        saved = save(context)
    assert saved.parts[0].v_trans
    assert equal(saved.data, columns)
    back = np.empty(rows.data.size, np.uint8)
    assert transcode(saved, e.geometry, type_k, type_v, back)
    assert equal(back, rows.data)
    as_f32 = e.transcoded(saved, F32, F32)
    assert equal(as_f32.data, e.transcoded(rows, F32, F32).data)
    with pytest.raises(CacheTypeError, match="flash attention"):
        transcode(rows, e.geometry, F16, Q8_0, np.empty(0, np.uint8), flash_attention=False)


def test_threads_and_chunks_do_not_matter(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    e = engine(head_dim=128, n_head=4, n_head_kv=1)
    source = e.state(F16, F16, 200)
    expected = e.transcoded(source, Q4_0, Q8_0).data
    for n_threads, chunk in ((1, 1 << 16), (3, 1), (2, 1000), (4, 129)):
        monkeypatch.setattr("quantize.transcode.CHUNK", chunk)
        out = np.empty(expected.size, np.uint8)
        assert transcode(source, e.geometry, Q4_0, Q8_0, out, n_threads=n_threads)
        assert equal(out, expected)


def test_unaligned_states(engine: Callable[..., Engine]) -> None:
    """A state may begin at any address, and some types leave what follows at odd ones."""
    e = engine(head_dim=96, n_head=4, n_head_kv=1, n_layer=3)
    source = e.state(39, F16, 21)  # mxfp4 rows of 51 bytes
    assert source.parts[0].k[1].offset % 2 == 1
    assert source.parts[0].v[0].offset % 2 == 1
    expected = e.transcoded(source, Q4_0, F32).data
    for shift in range(1, 4):
        moved = np.empty(source.data.size + shift, np.uint8)[shift:]
        moved[:] = source.data
        out = np.empty(expected.size + shift, np.uint8)[shift:]
        assert transcode(read_state(moved), e.geometry, Q4_0, F32, out)
        assert equal(out, expected)


def test_progress_and_cancel(engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantize.transcode.CHUNK", 512)
    e = engine(head_dim=128, n_head=4, n_head_kv=1)
    source = e.state(F16, F16, 200)
    out = np.empty(transcoded_size(source, e.geometry, Q8_0, Q8_0), np.uint8)
    seen: list[tuple[int, int]] = []
    assert transcode(source, e.geometry, Q8_0, Q8_0, out, on_progress=lambda n, m: seen.append((n, m)))
    assert [n for n, _ in seen] == sorted({n for n, _ in seen})
    assert {m for _, m in seen} == {out.size}
    part = read_state(out).parts[0]
    assert seen[-1][0] == sum(rows.size for rows in (*part.k, *part.v))

    calls: list[int] = []

    def stop_soon(n: int, _total: int) -> bool:
        calls.append(n)
        return len(calls) < 5

    assert not transcode(source, e.geometry, Q8_0, Q8_0, out, on_progress=stop_soon, n_threads=1)
    assert len(calls) == 5


def test_what_the_callback_raises_arrives(engine: Callable[..., Engine]) -> None:
    e = engine(head_dim=128, n_head=4, n_head_kv=1)
    source = e.state(F16, F16, 200)
    out = np.empty(transcoded_size(source, e.geometry, Q8_0, Q8_0), np.uint8)

    def fail(_n: int, _total: int) -> None:
        raise KeyError("from the callback")

    for n_threads in (1, 2):
        with pytest.raises(KeyError):
            transcode(source, e.geometry, Q8_0, Q8_0, out, on_progress=fail, n_threads=n_threads)


def test_a_state_of_another_model_is_refused(engine: Callable[..., Engine]) -> None:
    e = engine(head_dim=64, n_head=4, n_head_kv=2)
    source = e.state(F16, F16, 21)
    heads = LayerHeads(64, 64, 2)
    wrong = [
        Geometry.uniform(3, 64, 64, 2),
        Geometry.uniform(2, 64, 64, 1),
        Geometry.uniform(2, 128, 64, 2),
        Geometry(((heads, heads), ()), heads),
    ]
    for geometry in wrong:
        with pytest.raises(StateError, match="another model"):
            transcoded_size(source, geometry, Q8_0, Q8_0)
    with pytest.raises(ValueError):
        transcode(source, e.geometry, Q8_0, Q8_0, np.empty(10, np.uint8))
    with pytest.raises(CacheTypeError):
        transcoded_size(source, e.geometry, 4, Q8_0)
    q1_0 = CACHE_TYPES["q1_0"].variants[0].id
    e = engine(head_dim=96, n_head=4, n_head_kv=1)
    with pytest.raises(CacheTypeError, match="q1_0"):
        transcoded_size(e.state(F16, F16, 21), e.geometry, q1_0, F16)


@pytest.mark.parametrize("in_file", [False, True])
def test_the_source_gives_its_memory_back_as_it_is_read(tmp_path: Path, in_file: bool) -> None:
    """The peak is the larger of the two states and a few MB, not their sum."""
    n_cells, geometry = 8192, Geometry.uniform(16, 128, 128, 1)
    size = state_size(geometry, [n_cells], F16, F16)
    data = allocate(size, tmp_path / "state" if in_file else None)
    data[:] = 0
    data[:16] = np.frombuffer(struct.pack("<IiII", MAGIC, 0, 1, n_cells), np.uint8)
    cells = data[16 : 16 + 12 * n_cells].view(np.int32).reshape(-1, 3)
    cells[:, 0], cells[:, 1] = np.arange(n_cells), 1
    offset = 16 + 12 * n_cells
    struct.pack_into("<II", data.data, offset, 0, 16)
    offset += 8
    for _ in range(32):
        struct.pack_into("<iQ", data.data, offset, F16, 256)
        offset += 12 + 256 * n_cells
    state = read_state(data)
    del cells
    out = allocate(transcoded_size(state, geometry, Q8_0, Q8_0))
    process = psutil.Process()
    before = process.memory_info().rss
    peak = 0

    def look(_done: int, _total: int) -> None:
        nonlocal peak
        peak = max(peak, process.memory_info().rss - before)

    assert transcode(state, geometry, Q8_0, Q8_0, out, on_progress=look, n_threads=2, consume=True)
    one_layer = 256 * n_cells
    assert peak < working_bytes(geometry, 2) + 2 * one_layer + (4 << 20) < size // 4
    assert process.memory_info().rss - before < out.size - size + (8 << 20)
    if in_file:
        assert read_state(data).n_cells == n_cells, "the file is as it was: the way back"
