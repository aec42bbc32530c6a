"""Rows through ggml's own functions."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize import ggml
from quantize.cache_types import CACHE_TYPES
from quantize.errors import CacheTypeError

READ_BY_GGUF = {
    gguf.GGMLQuantizationType[name]
    for name in ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL", "MXFP4", "NVFP4")
}
FORMATS = [ggml.row_format(t.variants[0].id) for t in CACHE_TYPES.values() if not t.native]


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_rows_mean_what_another_reader_says(fmt: ggml.RowFormat) -> None:
    """Rows that are written here and read here have the values that the gguf package finds in them."""
    kind = gguf.GGMLQuantizationType(fmt.id) if fmt.id in set(gguf.GGMLQuantizationType) else None
    values = np.random.default_rng(1).standard_normal((32, 128), dtype=np.float32)
    data = np.empty((32, fmt.row_size(128)), np.uint8)
    back = np.empty_like(values)
    ggml.quantize(fmt, values, data)
    ggml.dequantize(fmt, data, back)
    if kind in READ_BY_GGUF:
        assert np.array_equal(back, gguf.quants.dequantize(data, kind))
    correlation = np.corrcoef(values.ravel(), back.ravel())[0, 1]
    assert correlation > (0.75 if fmt.name in ("q1_0", "q2_0") else 0.99)


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)
def test_many_rows_at_once_are_the_rows_one_by_one(fmt: ggml.RowFormat) -> None:
    """The engine writes row by row; whole chunks give the same bytes."""
    values = np.random.default_rng(2).standard_normal((16, 128), dtype=np.float32)
    together = np.empty(fmt.row_size(values.size), np.uint8)
    ggml.quantize(fmt, values, together)
    for row, expected in zip(values, together.reshape(16, -1), strict=True):
        alone = np.empty(expected.size, np.uint8)
        ggml.quantize(fmt, row, alone)
        assert (alone == expected).all()


@given(st.integers(-(2**31), 2**31 - 1))
def test_an_id_is_a_type_of_the_table_or_refused(type_id: int) -> None:
    try:
        fmt = ggml.row_format(type_id)
    except CacheTypeError:
        return
    assert fmt.id == type_id and fmt.block_size > 0 and fmt.name


def test_removed_and_unknown_ids_are_refused() -> None:
    for type_id in (-1, 4, 5, 43, 2**30):
        with pytest.raises(CacheTypeError):
            ggml.row_format(type_id)


def test_sizes_must_agree() -> None:
    """The C functions check nothing: a wrong size would write past the end."""
    q4_0 = ggml.row_format(2)
    values, data = np.zeros(64, np.float32), np.zeros(36, np.uint8)
    ggml.quantize(q4_0, values, data)
    for wrong_values, wrong_data in ((values, data[:35]), (values[:32], data), (values[:33], data)):
        with pytest.raises((ValueError, CacheTypeError)):
            ggml.quantize(q4_0, wrong_values, wrong_data)
        with pytest.raises((ValueError, CacheTypeError)):
            ggml.dequantize(q4_0, wrong_data, wrong_values)


def test_only_contiguous_memory_of_the_right_kind() -> None:
    q8_0 = ggml.row_format(8)
    good_values, good_data = np.zeros(64, np.float32), np.zeros(68, np.uint8)
    strided = np.zeros(128, np.float32)[::2]
    with pytest.raises(ValueError):
        ggml.quantize(q8_0, strided, good_data)
    with pytest.raises(ValueError):
        ggml.dequantize(q8_0, np.zeros(136, np.uint8)[::2], good_values)
    doubles: Any = np.zeros(64, np.float64)
    with pytest.raises(ValueError):
        ggml.quantize(q8_0, doubles, good_data)
    good_data.flags.writeable = False
    with pytest.raises(ValueError):
        ggml.quantize(q8_0, good_values, good_data)


def test_types_that_cannot_be_written_or_read_are_refused() -> None:
    iq1_s, i8, q8_1 = (ggml.row_format(i) for i in (19, 24, 9))
    values = np.zeros(256, np.float32)
    with pytest.raises(CacheTypeError):
        ggml.quantize(iq1_s, values, np.zeros(iq1_s.row_size(256), np.uint8))
    with pytest.raises(CacheTypeError):
        ggml.dequantize(i8, np.zeros(256, np.uint8), values)
    with pytest.raises(CacheTypeError):
        ggml.dequantize(q8_1, np.zeros(q8_1.row_size(256), np.uint8), values)
