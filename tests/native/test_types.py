"""The readers and writers of rows: every instruction set against numpy and against ggml."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from quantize import ggml
from quantize.native import register_types
from quantize.turboquant import trellis
from tests.native.row_types import STOCK_IDS, TQ_IDS, RowType, UseIsa, available_isas

STATUS = register_types()
pytestmark = pytest.mark.skipif(not STATUS.ok, reason=STATUS.reason)

EVERY_ISA = pytest.mark.parametrize("isa", available_isas())
EVERY_TQ = pytest.mark.parametrize("key", TQ_IDS, ids=lambda k: f"{k[0]}-{k[1]}")


def rows(seed: int, n: int, block: int) -> NDArray[np.float32]:
    """Blocks of very different sizes and shapes, the awkward ones first."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, block)) * rng.lognormal(0, 1.5, (n, 1))
    x[0] = 0
    x[1] = 1
    x[2, 5] = 50 * np.abs(x[2]).max()
    x[3] *= 1e-9
    x[4] *= 1e5
    x[5] = -0.0
    x[6] = 0
    x[6, 7] = -3
    x[7] = np.where(rng.random(block) < 0.5, -2.0, 2.0)
    x[8:16] = rng.standard_t(2, (8, block))
    return x.astype(np.float32)


# ------------------------------------------------------------------ TurboQuant against numpy


@EVERY_ISA
@EVERY_TQ
def test_writes_the_bytes_of_the_reference(isa: str, key: tuple[str, int]) -> None:
    fmt = trellis.FORMATS[key]
    x = rows(1, 80, fmt.block)
    with UseIsa(isa):
        row_type = RowType(TQ_IDS[key])
        assert (row_type.block, row_type.type_size) == (fmt.block, fmt.type_size)
        np.testing.assert_array_equal(row_type.write(x), trellis.quantize(fmt, x))


@EVERY_ISA
@EVERY_TQ
def test_reads_any_bytes_as_the_reference(isa: str, key: tuple[str, int]) -> None:
    """Also bytes that no writer makes: a damaged file must not read differently elsewhere."""
    fmt = trellis.FORMATS[key]
    data = np.random.default_rng(2).integers(0, 256, (200, fmt.type_size), dtype=np.uint8)
    with UseIsa(isa):
        row_type = RowType(TQ_IDS[key])
        got = row_type.integers(data)
        values = row_type.read(data)
    levels, scales = trellis.integers(fmt, data)
    np.testing.assert_array_equal(got.levels, levels)
    np.testing.assert_array_equal(got.scales, scales)
    np.testing.assert_array_equal(values, trellis.dequantize(fmt, data))


@EVERY_TQ
@settings(max_examples=25)
@given(data=st.data())
def test_every_instruction_set_writes_the_same(key: tuple[str, int], data: st.DataObject) -> None:
    x = data.draw(hnp.arrays(np.float32, (2, key[1]), elements=st.floats(-1e4, 1e4, width=32)), label="rows")
    written = []
    for isa in available_isas():
        with UseIsa(isa):
            written.append(RowType(TQ_IDS[key]).write(x))
    for other in written[1:]:
        np.testing.assert_array_equal(other, written[0])


@EVERY_ISA
@EVERY_TQ
def test_broken_rows_stay_broken(isa: str, key: tuple[str, int]) -> None:
    """Infinity and not-a-number are not turned into plausible values."""
    x = np.ones((2, key[1]), np.float32)
    x[0, 3] = np.inf
    x[1, 5] = np.nan
    with UseIsa(isa):
        row_type = RowType(TQ_IDS[key])
        back = row_type.read(row_type.write(x))
    assert not np.isfinite(back).any()


@EVERY_TQ
def test_distortion(key: tuple[str, int]) -> None:
    """Normal data: the relative error of the codebook's training, within sampling noise.

    Lloyd-Max at the same bits has .1160, .0340 and .0093.
    """
    x = np.random.default_rng(3).standard_normal((1500, key[1])).astype(np.float32)
    row_type = RowType(TQ_IDS[key])
    error = x - row_type.read(row_type.write(x))
    distortion = ((error**2).sum(1) / (x**2).sum(1)).mean()
    at_most = {"tq4": 0.0054, "tq3": 0.0193, "tq2": 0.0738}[key[0]]
    assert 0.8 * at_most < distortion < at_most


@EVERY_TQ
def test_writing_what_was_read_loses_little(key: tuple[str, int]) -> None:
    """Saving, restoring and shifting write decoded rows again; errors must not add up as if new."""
    x = np.random.default_rng(4).standard_normal((300, key[1])).astype(np.float32)
    row_type = RowType(TQ_IDS[key])
    once = row_type.read(row_type.write(x))
    again = row_type.read(row_type.write(once))
    first = ((x - once) ** 2).sum()
    assert ((once - again) ** 2).sum() < 0.5 * first


@EVERY_ISA
@EVERY_TQ
def test_product_with_q8_0(isa: str, key: tuple[str, int]) -> None:
    """The product that ggml's own attention calls is that of the decoded values."""
    n = 256
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((2, n)).astype(np.float32)
    q8_0 = RowType(STOCK_IDS["q8_0"])
    packed_y = q8_0.write(y)
    traits = ctypes.cast(ggml._get_traits_cpu(TQ_IDS[key]), ctypes.POINTER(_TraitsCpu)).contents
    assert traits.vec_dot_type == STOCK_IDS["q8_0"]
    with UseIsa(isa):
        row_type = RowType(TQ_IDS[key])
        packed = row_type.write(x)
        total = ctypes.c_float()
        traits.vec_dot(n, ctypes.byref(total), 0, packed.ctypes.data, 0, packed_y.ctypes.data, 0, 1)
        want = float(row_type.read(packed).ravel().astype(np.float64) @ q8_0.read(packed_y).ravel())
    assert total.value == pytest.approx(want, rel=1e-5, abs=1e-4)


class _TraitsCpu(ctypes.Structure):
    _fields_ = (
        ("from_float", ctypes.c_void_p),
        (
            "vec_dot",
            ctypes.CFUNCTYPE(
                None,
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_size_t,
                ctypes.c_void_p,
                ctypes.c_size_t,
                ctypes.c_void_p,
                ctypes.c_size_t,
                ctypes.c_int,
            ),
        ),
        ("vec_dot_type", ctypes.c_int32),
        ("nrows", ctypes.c_int64),
    )


# ------------------------------------------------------------------ stock types against ggml


@EVERY_ISA
@pytest.mark.parametrize("name", STOCK_IDS)
def test_stock_rows_read_as_ggml_reads_them(isa: str, name: str) -> None:
    """Any bytes, values that are not a number included, give ggml's own values."""
    type_id = STOCK_IDS[name]
    fmt = ggml.row_format(type_id)
    data = np.random.default_rng(6).integers(0, 256, 960 // fmt.block_size * fmt.type_size, dtype=np.uint8)
    want = np.empty(960, np.float32)
    ggml.dequantize(fmt, data, want)
    with UseIsa(isa):
        got = RowType(type_id).read(data).ravel()
    np.testing.assert_array_equal(got, want)


@EVERY_ISA
@pytest.mark.parametrize("name", [n for n in STOCK_IDS if n not in ("f16", "bf16")])
def test_stock_integers_make_up_the_values(isa: str, name: str) -> None:
    type_id = STOCK_IDS[name]
    x = np.clip(rows(7, 40, 32), -1e4, 1e4)  # scales that fit into f16
    with UseIsa(isa):
        row_type = RowType(type_id)
        data = row_type.write(x)
        parts = row_type.integers(data, n_row=4)
        values = row_type.read(data).reshape(-1, row_type.group)
    made = parts.levels * parts.scales[:, None] + (0 if parts.offsets is None else parts.offsets[:, None])
    np.testing.assert_allclose(made, values, rtol=1e-6)
    assert np.abs(parts.levels.astype(int)).max() <= row_type.q_max
    assert parts.levels.min() < 0 or parts.offsets is not None


@pytest.mark.parametrize("name", ["f16", "bf16"])
@pytest.mark.parametrize("n", [1, 3, 7, 17, 33])
def test_odd_lengths_of_plain_types(name: str, n: int) -> None:
    data = np.random.default_rng(8).integers(0, 256, 2 * n, dtype=np.uint8)
    for isa in available_isas():
        with UseIsa(isa):
            got = RowType(STOCK_IDS[name]).read(data).ravel()
        bits = data.view(np.uint16)
        want = (
            bits.view(np.float16).astype(np.float32)
            if name == "f16"
            else (bits.astype(np.uint32) << 16).view(np.float32)
        )
        np.testing.assert_array_equal(got, want)
