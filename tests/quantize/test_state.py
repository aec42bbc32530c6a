"""Reading saved states: real ones, ones of every layout, and hostile ones."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantize.errors import StateError
from quantize.geometry import Geometry
from quantize.llama import Context
from quantize.state import MAGIC, SavedState, read_state
from quantize.transcode import transcode, transcoded_size
from tests.quantize.conftest import Engine, equal, save
from tests.quantize.handmade import attention, layer, recurrent, state

F32, F16, Q8_0, Q4_0 = 0, 1, 8, 2


def test_a_real_state(engine: Callable[..., Engine]) -> None:
    e = engine(head_dim=64, n_head=4, n_head_kv=2)
    s = e.state(Q8_0, F16, 21)
    (part,) = s.parts
    assert (s.n_cells, s.seq_id, s.obstacle, part.cell_size, part.v_trans) == (21, 0, "", 12, False)
    assert s.positions().tolist() == list(range(21))
    assert [r.row_size for r in part.k] == [128 // 32 * 34] * 2
    assert [r.row_size for r in part.v] == [256] * 2
    assert s.rows(part.v[1]).shape == (21, 256)
    assert np.shares_memory(s.rows(part.k[0]), s.data) and np.shares_memory(s.positions(), s.data)
    assert part.v[1].offset + part.v[1].size == s.data.size


def test_positions_after_a_removal(engine: Callable[..., Engine]) -> None:
    """Cells that were freed and used again are out of order; the state restores as it is."""
    e = engine(head_dim=64, n_head=4, n_head_kv=2)
    with e.context(F16, F16) as context:
        context.decode(e.tokens(30), 0)
        assert context.remove(5, 9)
        context.decode(e.tokens(3), 30)
        s = save(context)
    assert sorted(s.positions().tolist()) == [*range(5), *range(9, 33)]
    made = e.transcoded(s, Q8_0, Q8_0)
    assert equal(np.array(made.positions()).view(np.uint8), np.array(s.positions()).view(np.uint8))


@pytest.mark.parametrize("seq", [0, 1, 2])
def test_several_streams(engine: Callable[..., Engine], seq: int) -> None:
    """A context for several sequences has a stream for each; only the own one holds cells."""
    e = engine(head_dim=64, n_head=4, n_head_kv=2)

    def context(type_k: int, type_v: int) -> Context:
        return Context(
            e.model,
            n_ctx=768,
            type_k=type_k,
            type_v=type_v,
            n_seq_max=3,
            n_threads=1,
            n_ubatch=64,
            n_outputs_max=3,
        )

    with context(F16, F16) as c:
        c.decode(e.tokens(9), 0, seq=(seq + 1) % 3)
        c.decode(e.tokens(21), 0, seq=seq)
        data = np.empty(c.state_size(seq), np.uint8)
        assert c.save_state(data, seq) == data.size
    s = read_state(data)
    assert (s.seq_id, s.n_cells, s.parts[0].n_stream) == (seq, 21, 3)
    made = e.transcoded(s, Q8_0, Q4_0)
    with context(Q8_0, Q4_0) as c:
        assert c.load_state(made.data, seq)
        assert c.last_position(seq) == 20
        again = np.empty(c.state_size(seq), np.uint8)
        assert c.save_state(again, seq) == made.data.size
    assert equal(again, made.data)


@pytest.mark.parametrize("before,after", [(0, 0), (2, 0), (0, 3), (1, 1)])
def test_streams_around_the_own_one(before: int, after: int) -> None:
    data = state(attention(3, before=before, after=after))
    s = read_state(data)
    assert (s.n_cells, s.parts[0].n_stream) == (3, 1 + before + after)
    geometry = Geometry.uniform(2, 64, 64, 1)
    out = np.full(transcoded_size(s, geometry, F16, F16), 255, np.uint8)
    transcode(s, geometry, F16, F16, out)
    assert equal(out, data)


@pytest.mark.parametrize("n_cells", [1, 2, 50])
@pytest.mark.parametrize("token", [-1, 0, 1, 2, 151_000])
def test_cells_with_two_dimensional_positions(n_cells: int, token: int) -> None:
    """Nothing says that a cell has 12 bytes more; every other reading must fail."""
    data = state(attention(n_cells, ext=struct.pack("<iii", 0, 0, token)))
    s = read_state(data)
    assert (s.parts[0].cell_size, s.n_cells, len(s.parts)) == (24, n_cells, 1)
    assert s.positions().tolist() == list(range(n_cells))
    geometry = Geometry.uniform(2, 64, 64, 1)
    out = np.empty(transcoded_size(s, geometry, F32, F16), np.uint8)
    transcode(s, geometry, F32, F16, out)
    made = read_state(out)
    assert made.parts[0].cell_size == 24
    assert equal(out[made.parts[0].cells_offset :][: 24 * n_cells], data[16:][: 24 * n_cells])


def test_a_sliding_window_makes_two_parts() -> None:
    s = read_state(state(attention(9, 2), attention(4, 3, positions=[8, 5, 6, 7])))
    assert [(p.n_cells, len(p.k), len(p.v)) for p in s.parts] == [(9, 2, 2), (4, 3, 3)]
    assert s.positions(1).tolist() == [8, 5, 6, 7]
    assert s.obstacle == ""


def test_a_part_without_layers() -> None:
    """All layers slide: the first cache has cells and no rows."""
    s = read_state(state(attention(3, 0), attention(3, 2)))
    assert [len(p.k) for p in s.parts] == [0, 2]


def test_what_cannot_be_transcoded_is_recognised() -> None:
    cases = {
        "is recurrent": [recurrent()],
        "partly recurrent": [attention(5), recurrent()],
        "K without V": [attention(5, has_v=False)],
    }
    for words, parts in cases.items():
        s = read_state(state(*parts))
        assert words in s.obstacle
        with pytest.raises(StateError, match=words):
            transcoded_size(s, Geometry.uniform(2, 64, 64, 1), F16, F16)
    assert "partly recurrent" in read_state(state(attention(9), attention(4), recurrent())).obstacle
    assert "K without V" in read_state(state(attention(5, has_v=False), attention(5, 1))).obstacle
    assert read_state(state(recurrent(position=0))).obstacle


def test_empty_states() -> None:
    assert read_state(state(attention(0))).n_cells == 0
    assert len(read_state(state(attention(0), attention(0))).parts) == 2


# ------------------------------------------------------------------ hostile states


@pytest.mark.parametrize(
    "data,problem",
    [
        (b"", "damaged|too early"),
        (b"\xd8\x3c\x14\xaf", "damaged|too early"),
        (struct.pack("<Ii", 1, 0), "first bytes"),
        (struct.pack("<Ii", MAGIC, -1) + attention(0), "sequence -1"),
        (struct.pack("<Ii", MAGIC, 0), "damaged"),
        (struct.pack("<IiI", MAGIC, 0, 0), "damaged"),
        (struct.pack("<IiII", MAGIC, 0, 1, 2**32 - 1), "damaged"),
        (struct.pack("<Ii", MAGIC, 0) + attention(3) + b"\0", "damaged"),
        (struct.pack("<Ii", MAGIC, 0) + attention(3, seq=1), "damaged"),
        (struct.pack("<Ii", MAGIC, 0) + attention(1, positions=[-1]), "damaged"),
        (struct.pack("<Ii", MAGIC, 0) + attention(3, type_id=7777), "damaged"),
        (struct.pack("<Ii", MAGIC, 0) + attention(3, row_size=127), "damaged"),
        (struct.pack("<Ii", MAGIC, 0) + attention(3) * 4, "damaged"),
    ],
)
def test_damage_is_found(data: bytes, problem: str) -> None:
    with pytest.raises(StateError, match=problem):
        read_state(np.frombuffer(data, np.uint8))


def test_layers_of_different_types_are_damage() -> None:
    cells = struct.pack("<II", 1, 1) + struct.pack("<iIi", 0, 1, 0) + struct.pack("<II", 0, 2)
    with pytest.raises(StateError):
        read_state(state(cells, layer(F16, 128, 1), layer(Q8_0, 68, 1), layer(F16, 128, 1) * 2))


REAL = [
    state(attention(5)),
    state(attention(3, 3, type_id=Q8_0, row_size=68, ext=bytes(12), before=1, seq=2), seq=2),
    state(attention(9, 2), attention(4, 1)),
    state(attention(2), recurrent()),
    state(attention(0)),
]
HOSTILE = [0, 1, 2, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1]


def check_reading(data: NDArray[np.uint8]) -> SavedState | None:
    """Read: a StateError, or parts that cover the bytes without a gap."""
    try:
        s = read_state(data)
    except StateError:
        return None
    offset = 8
    for part in s.parts:
        assert part.offset == offset
        for rows in (*part.k, *part.v):
            assert 0 <= rows.offset <= rows.offset + rows.size <= data.size
            assert s.rows(rows).size == rows.size
        offset += part.size
    assert offset + s.recurrent_size == data.size
    for i in range(len(s.parts)):
        assert s.positions(i).size == s.parts[i].n_cells
    return s


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_mutated_states(draw: st.DataObject) -> None:
    """Cut, flipped, overwritten and spliced states: an error or a sound reading, never more."""
    data = bytearray(draw.draw(st.sampled_from(REAL)).tobytes())
    for _ in range(draw.draw(st.integers(1, 4))):
        where = draw.draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw.draw(st.sampled_from(["cut", "flip", "number", "long", "insert", "delete"]))
        if kind == "cut":
            del data[where:]
        elif kind == "flip" and data:
            data[where] ^= 1 << draw.draw(st.integers(0, 7))
        elif kind == "number":
            where -= where % 4
            data[where : where + 4] = struct.pack("<I", draw.draw(st.sampled_from(HOSTILE)))
        elif kind == "long":
            where -= where % 4
            data[where : where + 8] = struct.pack("<Q", draw.draw(st.integers(0, 2**64 - 1)))
        elif kind == "insert":
            data[where:where] = draw.draw(st.binary(min_size=1, max_size=16))
        else:
            del data[where : where + draw.draw(st.integers(1, 16))]
    s = check_reading(np.frombuffer(bytes(data), np.uint8))
    if s is not None:
        geometry = Geometry.uniform(2, 64, 64, 1)
        try:
            out = np.empty(transcoded_size(s, geometry, F32, F16), np.uint8)
        except StateError:
            return
        assert transcode(s, geometry, F32, F16, out)
        assert check_reading(out) is not None


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes(tail: bytes) -> None:
    check_reading(np.frombuffer(struct.pack("<Ii", MAGIC, 0) + tail, np.uint8))


def test_counts_allocate_nothing() -> None:
    """A state that claims billions costs no more memory than one that does not."""
    tracemalloc.start()
    try:
        for n in (2**20, 2**31 - 1, 2**32 - 1):
            for at in range(8, 60, 4):
                data = bytearray(REAL[0].tobytes())
                data[at : at + 4] = struct.pack("<I", n)
                check_reading(np.frombuffer(bytes(data), np.uint8))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_rows_of_random_bytes_do_not_crash() -> None:
    """Rows hold whatever a damaged file holds: NaN, infinities, every code. In a process of its own."""
    code = """
import numpy as np
from quantize.cache_types import CACHE_TYPES
from quantize import ggml
rng = np.random.default_rng(0)
formats = [ggml.row_format(t.variants[0].id) for t in CACHE_TYPES.values() if not t.native]
special = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 0.0, -0.0], np.float32)
for a in formats:
    data = rng.integers(0, 256, a.row_size(1 << 14), np.uint8)
    values = np.empty(1 << 14, np.float32)
    ggml.dequantize(a, data, values)
    mixed = np.where(rng.random(1 << 14) < 0.3, rng.choice(special, 1 << 14), values).astype(np.float32)
    for b in formats:
        out = np.empty(b.row_size(1 << 14), np.uint8)
        ggml.quantize(b, values, out)
        ggml.quantize(b, mixed, out)
print("survived", len(formats))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.startswith("survived")
