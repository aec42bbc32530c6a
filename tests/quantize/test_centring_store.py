"""The files of K's constants: found again, refused when they are damaged, no reason to fail."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.geometry import read_shape
from models.header import read_header
from quantize import centring as module
from quantize.centring import with_id
from quantize.centring_store import CentringStore
from quantize.centrings import from_bias
from quantize.errors import StateError
from quantize.llama import Model, send_log_to
from quantize.native import attention, register_types
from tests.synthetic import SyntheticModels

pytestmark = pytest.mark.skipif(not attention.enable().ok, reason="there is no native library")


@pytest.fixture(autouse=True)
def _on() -> Iterator[None]:
    send_log_to(lambda _level, _text: None)
    assert register_types().ok
    before = list(module._finders)
    yield
    module._finders[:] = before


@pytest.fixture
def model(synthetic: SyntheticModels) -> Iterator[Model]:
    with Model(synthetic("huge_bias_qwen2", seed=31)) as made:
        yield made


def store(model: Model, folder: Path | None) -> CentringStore:
    return CentringStore(model, read_shape(read_header(model.path)).geometry(), folder, 1)


def calibrated(model: Model, folder: Path) -> tuple[CentringStore, Path]:
    made = store(model, folder)
    made.calibrate()
    (path,) = folder.iterdir()
    return made, path


def test_at_once_from_the_weights_and_better_from_a_text(model: Model, tmp_path: Path) -> None:
    made = store(model, tmp_path)
    assert model.centring is not None and model.centring.source == "bias"
    assert not made.calibrated and not list(tmp_path.iterdir())
    made.calibrate()
    assert made.calibrated and model.centring.source == "text"
    number = model.centring.id
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size < model.centring.n_bytes + 200 < 8192
    again = store(model, tmp_path)
    assert again.calibrated and model.centring.id == number


def test_calibrated_again_it_is_the_same(model: Model, tmp_path: Path) -> None:
    """So that states that were saved before can still be read."""
    made, path = calibrated(model, tmp_path)
    assert model.centring is not None
    number = model.centring.id
    made.calibrate()
    assert model.centring.id == number
    assert list(tmp_path.iterdir()) == [path]


def test_no_bias_and_no_file_is_none(synthetic: SyntheticModels, tmp_path: Path) -> None:
    with Model(synthetic("llama")) as model:
        made = store(model, tmp_path)
        assert model.centring is None and not made.calibrated and not made.obstacle
        made.calibrate()
        assert made.calibrated


@pytest.mark.parametrize("name", ["mamba", "deepseek2"])
def test_models_without_such_rows(synthetic: SyntheticModels, tmp_path: Path, name: str) -> None:
    """Nothing is centred, and nothing fails but the calibration, with a sentence."""
    with Model(synthetic(name)) as model:
        made = store(model, tmp_path)
        assert model.centring is None
        with pytest.raises(StateError):
            made.calibrate()
        assert model.centring is None


def test_a_damaged_file_is_as_good_as_none(model: Model, tmp_path: Path) -> None:
    """Every byte of its header, some of the rest, every short length."""
    _, path = calibrated(model, tmp_path)
    data = path.read_bytes()
    positions = [*range(60), *range(60, len(data), 97), len(data) - 1]
    candidates = [data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :] for at in positions]
    candidates += [data[:n] for n in (0, 1, 11, 12, 27, 28, 36, len(data) - 1)] + [data + b"x", bytes(5000)]
    made = store(model, None)
    for candidate in candidates:
        path.write_bytes(candidate)
        assert made._read(path) is None
    found = store(model, tmp_path)
    assert model.centring is not None and model.centring.source == "bias"
    found.calibrate()
    assert path.read_bytes() == data


def test_the_file_of_a_model_of_another_shape_is_as_good_as_none(
    model: Model, synthetic: SyntheticModels, tmp_path: Path
) -> None:
    """Even under this one's name."""
    for n, sizes in enumerate(({"n_layer": 3}, {"n_head_kv": 1})):
        folder = tmp_path / str(n)
        with Model(synthetic("huge_bias_qwen2", **sizes)) as other:
            theirs, path = calibrated(other, folder)
        mine = store(model, folder)
        assert mine._mark != theirs._mark
        path.rename(folder / path.name.replace(theirs._mark, mine._mark))
        store(model, folder)
        assert model.centring is not None and model.centring.source == "bias"


def test_a_folder_that_cannot_be_written(model: Model, tmp_path: Path) -> None:
    """A file stands where it should be: it is calibrated for this time."""
    folder = tmp_path / "calibrations"
    folder.write_text("in the way")
    made = store(model, folder)
    made.calibrate()
    assert made.calibrated
    assert folder.read_text() == "in the way"
    assert list(tmp_path.iterdir()) == [folder]


def test_older_ones_are_found_by_their_number(model: Model, tmp_path: Path) -> None:
    """What was saved with the bias, or before the last calibration, is read with that."""
    made, path = calibrated(model, tmp_path)
    assert model.centring is not None
    number, bias = model.centring.id, from_bias(model, made._geometry)
    assert bias is not None
    bias_number = bias.id
    model.centring = None
    del bias
    gc.collect()
    for wanted in (number, bias_number):
        found = with_id(wanted)
        assert found is not None and found.id == wanted
        del found
    path.unlink()
    gc.collect()
    with pytest.raises(StateError, match="no longer there"):
        with_id(number)


def test_only_the_newest_files_stay(model: Model, tmp_path: Path) -> None:
    made, path = calibrated(model, tmp_path)
    for i in range(9):
        other = tmp_path / f"{made._mark}-{i:08x}.centring"
        shutil.copy(path, other)
        os.utime(other, (i, i))
    foreign = tmp_path / "another-00000000.centring"
    foreign.write_bytes(b"")
    made.calibrate()
    left = sorted(p.name for p in tmp_path.iterdir())
    assert len(left) == 5 and path.name in left and foreign.name in left


def test_the_stock_kernel_keeps_rows_whole(model: Model, tmp_path: Path) -> None:
    """It could not read them otherwise."""
    attention.use("stock")
    try:
        made = store(model, tmp_path)
        assert model.centring is None or model.centring_for(8) is None
        assert made.obstacle
    finally:
        attention.use("own")
