"""Whether weights are ternary or 1-bit is found out by looking at them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.levels import BLOCK, _levels, layer_matrices, look_at
from models.resolve import resolve
from models.splits import read_model
from quantize.errors import ModelFileError
from tests.synthetic import SyntheticModels
from tests.weights.conftest import SIZES


def levels(path: Path, type_name: str = "tq2_0") -> tuple[int, float]:
    found = look_at(path, read_model(path), type_name)
    return found.levels, found.changed


def test_models_of_every_kind(ordinary: Path, ternary: Path, one_bit: Path) -> None:
    assert levels(ordinary)[0] == 0 and levels(ordinary)[1] > 0.3
    assert levels(ternary)[0] == 3 and levels(ternary)[1] < 1e-3
    assert levels(one_bit)[0] == 2 and levels(one_bit, "q1_0")[1] < 1e-3
    assert levels(ternary, "q1_0")[1] > 0.3, "zeros do not fit into one bit"


def test_the_built_in_models() -> None:
    assert levels(resolve("builtin"))[0] == 0
    assert levels(resolve("builtin-ternary")) == (3, 0.0)


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "tq1_0", "tq2_0"])
def test_however_they_are_stored(synthetic: SyntheticModels, kind: str) -> None:
    assert levels(synthetic("llama", levels=3, weight_type=kind, **SIZES))[0] == 3


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0"])
def test_ordinary_ones_however_they_are_stored(synthetic: SyntheticModels, kind: str) -> None:
    assert levels(synthetic("llama", weight_type=kind, **SIZES))[0] == 0


def test_experts_and_other_layouts(synthetic: SyntheticModels) -> None:
    path = synthetic("gpt-oss", levels=3, n_embd=256, n_ff_exp=256)
    header = read_model(path)
    assert any("_exps" in t.name for t in layer_matrices(header))
    assert look_at(path, header).levels == 3


def test_one_ordinary_matrix_is_enough(ternary: Path, tmp_path: Path) -> None:
    header = read_model(ternary)
    spoiled = tmp_path / "spoiled.gguf"
    data = bytearray(ternary.read_bytes())
    tensor = header.by_name["blk.1.ffn_up.weight"]
    start = header.data_offset + tensor.offset
    ordinary = np.random.default_rng(0).standard_normal(tensor.n_elements).astype(np.float16)
    data[start : start + tensor.n_bytes] = ordinary.tobytes()
    spoiled.write_bytes(data)
    found = look_at(spoiled, read_model(spoiled))
    assert found.levels == 0 and not found.suits(3)
    assert "13 of 14 matrices ternary" in found.describe()


def test_what_counts_as_one_size() -> None:
    signs = np.sign(np.random.default_rng(1).standard_normal((4, BLOCK))).astype(np.float32)
    scales = np.array([[0.5], [2.0], [1e-4], [1.0]], np.float32)
    assert _levels(signs * scales) == 2, "blocks may differ in their scale"
    half = (signs * scales).astype(np.float16).astype(np.float32)
    assert _levels(half) == 2
    with_zeros = half.copy()
    with_zeros[:, ::3] = 0
    assert _levels(with_zeros) == 3
    with_zeros[0, 1] *= 1.01
    assert _levels(with_zeros) == 0
    assert _levels(np.zeros((2, BLOCK), np.float32)) == 0
    half[0, 0] = np.nan
    assert _levels(half) == 0


def test_models_without_layers_hold_neither(synthetic: SyntheticModels) -> None:
    path = synthetic("llama", levels=3, n_layer=0, **SIZES)
    found = look_at(path, read_model(path))
    assert (found.n_matrices, found.levels, found.suits(3), found.suits(0)) == (0, 0, False, True)


def test_a_file_that_became_shorter(ternary: Path, tmp_path: Path) -> None:
    header = read_model(ternary)
    short = tmp_path / "short.gguf"
    short.write_bytes(ternary.read_bytes()[: header.data_offset + 100])
    with pytest.raises(ModelFileError, match="in the middle"):
        look_at(short, header)
