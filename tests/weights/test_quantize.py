"""``stretch quantize``: llama.cpp's quantizer through and through, and everything that may stop it."""

from __future__ import annotations

import json
import shutil
import sys
from collections import namedtuple
from itertools import pairwise
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as L
import numpy as np
import psutil
import pytest

from app.cli import main
from app.weights.new_file import new_file
from models.header import read_header
from models.tensor_types import TENSOR_TYPES
from quantize.errors import EngineDiedError, ModelFileError, UsageError
from quantize.ggml import dequantize, row_format
from quantize.llama import Model
from quantize.weights.file_types import FILE_TYPES, file_type
from quantize.weights.process import QuantizeJob, run
from tests.synthetic import SyntheticModels
from tests.weights.test_importance import as_gguf, as_list

TOKENS = ["--tokens", "100"]


def stretch(*arguments: str) -> int:
    return main(["quantize", *map(str, arguments)])


def types(path: Path) -> dict[str, str]:
    return {t.name: TENSOR_TYPES[t.type_id].name for t in read_header(path).tensors}


def weights(path: Path, name: str) -> np.ndarray:
    """The values of one tensor."""
    header = read_header(path)
    tensor = header.by_name[name]
    start = header.data_offset + tensor.offset
    data = np.frombuffer(path.read_bytes()[start : start + tensor.n_bytes], np.uint8)
    out = np.empty(tensor.n_elements, np.float32)
    dequantize(row_format(tensor.type_id), data, out)
    return out


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


# --------------------------------------------------------------------------- what it makes


def test_the_file_the_prediction_and_the_loss(ordinary: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "q4.gguf"
    assert stretch(str(ordinary), str(out), "--to", "Q4-K-M", "--json", *TOKENS) == 0
    said = json.loads(capsys.readouterr().out)
    made = read_header(out)
    assert said["path"] == str(out) and said["weights"] == "ordinary"
    assert said["types"] == {k: n for k, n in made.type_bytes().items() if n}
    assert said["file"]["before"] == ordinary.stat().st_size
    # The prediction keeps the metadata of the old file.
    assert said["file"]["after"] - out.stat().st_size == read_header(ordinary).data_offset - made.data_offset
    assert said["total"]["before"] > 0 and said["longest"]["after"] >= said["longest"]["before"]
    assert set(types(out).values()) == {"f32", "q4_k", "q6_k"}
    loss = said["loss"]
    assert 0 < loss["kld_mean"] < 1 and 0.3 < loss["top1"] <= 1 and loss["n_tokens"] == 99
    with Model(out) as model:
        assert model.n_vocab == 300
    assert not leftovers(tmp_path)


def test_for_people(ordinary: Path, tmp_path: Path, capsys: Any) -> None:
    assert stretch(str(ordinary), str(tmp_path), "--to", "q8_0", *TOKENS) == 0
    said = capsys.readouterr().out
    assert (tmp_path / f"{ordinary.stem}-q8_0.gguf").exists(), "a directory gives the file a name"
    for words in ("mostly f16", "ordinary numbers", "as q8_0:", "longest context", "written to", "KLD 0.0"):
        assert words in said


def test_a_dry_run_writes_nothing(ordinary: Path, tmp_path: Path, capsys: Any) -> None:
    assert stretch(str(ordinary), str(tmp_path / "x.gguf"), "--to", "q4_0", "--dry-run", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["file"]["after"] < said["file"]["before"] and "path" not in said and "loss" not in said
    assert not list(tmp_path.iterdir())


def test_types_of_single_tensors(ordinary: Path, tmp_path: Path) -> None:
    out = tmp_path / "mixed.gguf"
    chosen = ["--tensor-type", r"blk\.1\.ffn_down=q8_0", "--tensor-type", "attn_k=f16"]
    chosen += ["--embedding-type", "q5_1", "--output-type", "q8_0"]
    assert stretch(str(ordinary), str(out), "--to", "q4_0", "--tokens", "0", *chosen) == 0
    found = types(out)
    assert found["blk.1.ffn_down.weight"] == "q8_0" and found["blk.0.ffn_down.weight"] == "q4_0"
    assert found["blk.0.attn_k.weight"] == "f16"
    assert (found["token_embd.weight"], found["output.weight"]) == ("q5_1", "q8_0")


def test_one_type_for_everything(ordinary: Path, tmp_path: Path) -> None:
    out = tmp_path / "pure.gguf"
    assert stretch(str(ordinary), str(out), "--to", "q4_k_m", "--pure", "--tokens", "0") == 0
    assert set(types(out).values()) == {"f32", "q4_k"}


def test_importance_reaches_the_quantizer(ordinary: Path, tmp_path: Path) -> None:
    """The matrix says that one input matters alone: its weights come out closer."""
    name = "blk.0.ffn_up.weight"
    heavy = np.full(256, 1e-3, np.float32)
    heavy[7] = 1e4
    plain, listed, packed = (tmp_path / f"{n}.gguf" for n in ("plain", "listed", "packed"))
    (tmp_path / "list.dat").write_bytes(as_list({name: (1, heavy)}))
    as_gguf(tmp_path / "im.gguf", {name: (heavy[None], np.array([[1]], np.float32))})
    for out, more in (
        (plain, []),
        (listed, ["--imatrix", str(tmp_path / "list.dat")]),
        (packed, ["--imatrix", str(tmp_path / "im.gguf")]),
    ):
        assert stretch(str(ordinary), str(out), "--to", "q4_k_s", "--tokens", "0", *more) == 0
    right = weights(ordinary, name).reshape(-1, 256)[:, 7]
    errors = [float(np.abs(weights(p, name).reshape(-1, 256)[:, 7] - right).mean()) for p in (plain, listed)]
    assert errors[1] < errors[0] / 2
    assert (weights(listed, name) == weights(packed, name)).all()


def test_types_that_need_importance_say_so(ordinary: Path, tmp_path: Path, capsys: Any) -> None:
    assert stretch(str(ordinary), str(tmp_path / "x.gguf"), "--to", "iq2_xs", "--tokens", "0") == 1
    said = capsys.readouterr().err
    assert "imatrix" in said and "--imatrix FILE" in said
    assert not list(tmp_path.iterdir())


def test_a_model_in_parts_becomes_one_file(ordinary: Path, tmp_path: Path) -> None:
    """Judged, predicted and measured like any other (llama.cpp finds the parts by their names)."""
    from tests.weights.parts import split

    first = split(ordinary, tmp_path, 3)
    out = tmp_path / "whole.gguf"
    assert stretch(str(first), str(out), "--to", "q8_0", *TOKENS) == 0
    assert read_header(out).split == (0, 1)
    assert set(types(out)) == set(types(ordinary))


def test_the_names_of_types_are_llama_cpp_s() -> None:
    ids = {
        name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_").lower(): number
        for name, number in vars(L).items()
        if name.startswith("LLAMA_FTYPE_")
    }
    assert ids["mxfp4_moe"] == FILE_TYPES["mxfp4"].id
    assert {t.name: t.id for t in FILE_TYPES.values() if t.name != "mxfp4"} == {
        name: ids[name] for name in FILE_TYPES if name != "mxfp4"
    }
    assert {t.tensor_type for t in FILE_TYPES.values()} <= {t.name for t in TENSOR_TYPES.values()}
    with pytest.raises(UsageError) as caught:
        file_type("q4_k_xl")
    assert "q4_k_m" in caught.value.hint


# --------------------------------------------------------------------------- ternary and 1-bit


@pytest.mark.parametrize("name", ["tq2_0", "tq1_0", "q2_0", "q1_0"])
def test_types_for_few_levels_are_refused_for_ordinary_weights(
    ordinary: Path, tmp_path: Path, capsys: Any, name: str
) -> None:
    assert stretch(str(ordinary), str(tmp_path / "x.gguf"), "--to", name) == 1
    said = capsys.readouterr().err
    assert "ordinary numbers" in said and "%" in said and "--force" in said
    assert not list(tmp_path.iterdir())


def test_one_bit_is_refused_for_ternary_weights(ternary: Path, tmp_path: Path, capsys: Any) -> None:
    assert stretch(str(ternary), str(tmp_path / "x.gguf"), "--to", "q1_0") == 1
    assert "trained with one bit" in capsys.readouterr().err


def test_forced_it_shows_what_is_left(ordinary: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "x.gguf"
    assert stretch(str(ordinary), str(out), "--to", "tq1_0", "--force", *TOKENS) == 0
    said = capsys.readouterr().out
    assert "KLD" in said and "of no use" in said and out.exists()


@pytest.mark.parametrize("name", ["tq2_0", "tq1_0", "q2_0", "q1_0"])
def test_weights_that_were_trained_so_keep_their_values(
    ternary: Path, one_bit: Path, tmp_path: Path, capsys: Any, name: str
) -> None:
    source = one_bit if name == "q1_0" else ternary
    out = tmp_path / "x.gguf"
    more = ["--embedding-type", "f16", "--output-type", "f16"]
    assert stretch(str(source), str(out), "--to", name, "--json", *more, *TOKENS) == 0
    loss = json.loads(capsys.readouterr().out)["loss"]
    assert loss["kld_mean"] < 0.02, "nothing but the 8 bits of the other factor"
    for tensor in ("blk.0.attn_q.weight", "blk.1.ffn_down.weight"):
        assert types(out)[tensor] == name
        assert np.allclose(weights(out, tensor), weights(source, tensor), rtol=1e-3, atol=0)


def test_from_one_ternary_type_to_another_and_back(ternary: Path, tmp_path: Path) -> None:
    places = [ternary, *(tmp_path / f"{n}.gguf" for n in ("tq2_0", "tq1_0", "q2_0"))]
    for source, out in pairwise(places):
        assert stretch(str(source), str(out), "--to", out.stem, "--tokens", "0") == 0
    back = tmp_path / "tq2_0-again.gguf"
    assert stretch(str(places[-1]), str(back), "--to", "tq2_0", "--tokens", "0") == 0
    name = "blk.0.ffn_gate.weight"
    assert (weights(back, name) == weights(places[1], name)).all()


def test_quantized_weights_are_not_quantized_again(ordinary: Path, tmp_path: Path, capsys: Any) -> None:
    small, smaller = tmp_path / "q4.gguf", tmp_path / "q3.gguf"
    assert stretch(str(ordinary), str(small), "--to", "q4_0", "--tokens", "0") == 0
    assert stretch(str(small), str(smaller), "--to", "q3_k_s", "--tokens", "0") == 1
    assert "adds the loss of both" in capsys.readouterr().err
    assert stretch(str(small), str(smaller), "--to", "q3_k_s", "--tokens", "0", "--force") == 0
    assert stretch(str(small), str(tmp_path / "f16.gguf"), "--to", "f16", "--tokens", "0") == 0


# --------------------------------------------------------------------------- the file system


def test_nothing_is_overwritten_silently(ordinary: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "mine.gguf"
    out.write_text("precious")
    assert stretch(str(ordinary), str(out), "--to", "q8_0") == 2
    assert out.read_text() == "precious" and "--overwrite" in capsys.readouterr().err
    assert stretch(str(ordinary), str(out), "--to", "q8_0", "--overwrite", "--tokens", "0") == 0
    assert read_header(out).tensors and not leftovers(tmp_path)
    copy = tmp_path / "copy.gguf"
    shutil.copy(ordinary, copy)
    assert stretch(str(copy), str(copy), "--to", "q8_0", "--overwrite") == 2
    assert copy.read_bytes() == ordinary.read_bytes()


def test_a_file_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    place = tmp_path / "x.gguf"
    with pytest.raises(UsageError, match="appeared meanwhile"), new_file(place, overwrite=False) as part:
        part.write_text("new")
        place.write_text("precious")
    assert place.read_text() == "precious" and not leftovers(tmp_path)


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    place = tmp_path / "x[1].gguf"
    gone = tmp_path / ".x[1].gguf.999999999.part"
    mine = tmp_path / f".x[1].gguf.{psutil.Process().ppid()}.part"
    other = tmp_path / ".y.gguf.999999999.part"
    for path in (gone, mine, other):
        path.write_text("rest")
    with new_file(place, overwrite=False) as part:
        part.write_text("new")
    assert place.read_text() == "new"
    assert sorted(leftovers(tmp_path)) == sorted([mine.name, other.name])


def test_too_little_disk_is_told_before(
    ordinary: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1, 1, 500))
    assert stretch(str(ordinary), str(tmp_path / "x.gguf"), "--to", "q8_0") == 2
    assert "500 B of the disk are free" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_disk_that_fills_up_meanwhile(ordinary: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.symlink_to("/dev/full")
    with pytest.raises(ModelFileError, match="could not be written"):
        list(run(QuantizeJob(str(ordinary), str(part), FILE_TYPES["q8_0"].id)))


@pytest.mark.parametrize("out", ["nowhere/x.gguf", "/proc/x.gguf"])
def test_places_that_cannot_be_written_to(ordinary: Path, out: str, capsys: Any) -> None:
    assert stretch(str(ordinary), out, "--to", "q8_0", "--tokens", "0") in (1, 2)
    assert capsys.readouterr().err.startswith("stretch: ")


@pytest.mark.parametrize(
    "arguments",
    [["--to", "q9"], ["--to", "q8_0", "--tensor-type", "("], ["--to", "q8_0", "--tensor-type", "a=q9"]],
)
def test_mistakes_in_the_arguments(ordinary: Path, tmp_path: Path, arguments: list[str]) -> None:
    assert stretch(str(ordinary), str(tmp_path / "x.gguf"), *arguments) == 2


# --------------------------------------------------------------------------- the child


def children() -> list[psutil.Process]:
    alive = [p for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE]
    return [p for p in alive if "quantize.weights" in " ".join(p.cmdline())]


def test_stopping_ends_the_child_and_removes_the_rest(ordinary: Path, tmp_path: Path) -> None:
    place = tmp_path / "x.gguf"
    for _attempt in range(20):
        with pytest.raises(KeyboardInterrupt), new_file(place, overwrite=False) as part:
            for _event in run(QuantizeJob(str(ordinary), str(part), FILE_TYPES["q8_0"].id)):
                caught = bool(children())  # where the machine is busy it may have ended before we look
                raise KeyboardInterrupt
        assert not children() and not list(tmp_path.iterdir())
        if caught:
            return
    raise AssertionError("The child was never seen alive.")


def test_the_death_of_the_child_is_not_ours(ordinary: Path, tmp_path: Path) -> None:
    events = run(QuantizeJob(str(ordinary), str(tmp_path / "x"), FILE_TYPES["q8_0"].id))
    next(events)
    for child in children():
        child.kill()
    with pytest.raises(EngineDiedError, match="memory ran out"):
        for _event in events:
            pass


def test_an_assertion_of_llama_cpp_is_not_ours(synthetic: SyntheticModels, tmp_path: Path) -> None:
    path = synthetic("llama", hollow=True, keys={"expert_count": 5000, "expert_used_count": 3})
    with pytest.raises(EngineDiedError, match=r"internal check failed.*GGML_ASSERT"):
        list(run(QuantizeJob(str(path), "", FILE_TYPES["q8_0"].id)))


def test_a_child_that_cannot_be_started(ordinary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with pytest.raises(Exception, match="could not be started"):
        list(run(QuantizeJob(str(ordinary), "", FILE_TYPES["q8_0"].id)))


def test_files_of_different_models_are_not_compared(ordinary: Path, synthetic: SyntheticModels) -> None:
    from quantize.weights.process import LossJob

    other = synthetic("llama", n_vocab=400)
    with pytest.raises(ModelFileError, match="different vocabularies"):
        list(run(LossJob(str(ordinary), str(other), "some text", 10)))


def test_a_file_that_runs_nowhere_is_refused(tmp_path: Path, capsys: Any) -> None:
    from tests.models.test_refusals import CASES

    path = tmp_path / "i2_s.gguf"
    path.write_bytes(CASES["i2_s"].gguf.build() + bytes(1 << 17))
    assert stretch(str(path), str(tmp_path / "x.gguf"), "--to", "tq2_0") == 1
    assert "i2_s" in capsys.readouterr().err
