"""The dry run in a child process, and the planner that follows it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from models import dryrun
from models.byte_source import MemorySource
from models.dryrun import Request, dry_run, hollow_file
from models.exact import exact_planner
from models.header import Header, parse_header, read_header
from models.lean import lean_file
from models.plan import Planner
from quantize.cache_types import parse_pair
from quantize.errors import ModelFileError
from tests.models.gguf_bytes import STRING, UINT32, Gguf, tensor
from tests.synthetic import SyntheticModels

MIB = 1 << 20

SETTINGS = tuple(parse_pair(p) for p in ("f16", "q8_0", "q8_0/q4_0", "q5_0", "q4_0"))
"""What llama.cpp has of its own."""


@pytest.mark.parametrize(
    "name", ["llama", "gemma4", "gpt-oss", "deepseek2", "mamba", "granitehybrid", "qwen35"]
)
def test_the_engine_and_the_formula_agree(synthetic: SyntheticModels, name: str) -> None:
    path = synthetic(name)
    header = read_header(path)
    planner = exact_planner(path, header, settings=SETTINGS)
    assert planner.disagrees == ()
    formula = Planner(header)
    for pair in SETTINGS:
        if formula.refusal(pair):
            continue
        assert pair.label in planner.lines
        for n_ctx in (512, 8192, 100_000):
            assert planner.cache_bytes(pair, n_ctx) == formula.cache_bytes(pair, n_ctx)
            assert abs(planner.compute_bytes(pair, n_ctx) - formula.compute_bytes(pair, n_ctx)) < 16 * MIB


def test_a_header_without_its_data(synthetic: SyntheticModels) -> None:
    """What a hub gives before the download: the first bytes, and the size of the whole."""
    path = synthetic("gemma3")
    header = read_header(path)
    asked = [Request(4096, 8, 2), Request(65536, 1, 1)]
    with hollow_file(path.read_bytes()[: header.data_offset], header.file_bytes) as hollow:
        assert hollow.stat().st_size == path.stat().st_size
        assert dry_run(hollow, asked) == dry_run(path, asked)
    assert not hollow.exists()


@pytest.mark.parametrize("name", ["llama", "gemma4", "deepseek2", "mamba"])
def test_a_header_without_its_vocabulary(synthetic: SyntheticModels, name: str) -> None:
    path = synthetic(name)
    asked = [Request(600, 1, 1), Request(20_000, 8, 8)]
    with lean_file(path, read_header(path)) as lean:
        assert read_header(lean).n_vocab == read_header(path).n_vocab
        assert lean.name == path.name
        assert dry_run(lean, asked) == dry_run(path, asked)


def test_a_model_in_parts_becomes_one(synthetic: SyntheticModels, tmp_path: Path) -> None:
    whole = synthetic("llama")
    header = read_header(whole)
    first = replace(
        header, tensors=tuple(replace(t, part=i % 3) for i, t in enumerate(header.tensors)), n_parts=3
    )
    with lean_file(whole, first) as lean:
        assert dry_run(lean, [Request(512, 1, 1)]) == dry_run(whole, [Request(512, 1, 1)])


def test_contexts_that_the_engine_refuses(synthetic: SyntheticModels) -> None:
    f16, q1_0 = dry_run(synthetic("llama"), [Request(512, 1, 1), Request(512, 41, 41)])
    assert f16.cache > 0 and not f16.refused
    assert "head" in q1_0.refused or "block" in q1_0.refused


def test_a_file_that_llama_cpp_rejects(tmp_path: Path) -> None:
    gguf = Gguf().key("llama.block_count", UINT32, 1)
    gguf.tensors = [tensor("a", (4,), 0, 0)]
    gguf.data = bytes(16)
    path = tmp_path / "odd.gguf"
    path.write_bytes(gguf.build())
    with pytest.raises(ModelFileError) as caught:
        dry_run(path, [Request(512, 1, 1)])
    assert "key not found" in caught.value.message and "odd.gguf" in caught.value.message


def test_a_file_that_makes_llama_cpp_abort(synthetic: SyntheticModels, tmp_path: Path) -> None:
    """Its assertions end the child, not us."""
    path = synthetic("llama", hollow=True, keys={"expert_count": 5000, "expert_used_count": 3})
    with pytest.raises(ModelFileError) as caught:
        dry_run(path, [Request(512, 1, 1)])
    assert "GGML_ASSERT" in caught.value.message and "\n" not in caught.value.message


def test_escape_sequences_of_a_file_stay_in_it(tmp_path: Path) -> None:
    gguf = Gguf(keys=[])
    gguf.key("general.architecture", STRING, "\x1b[31mred\x07")
    gguf.tensors, gguf.data = [tensor("a", (4,), 0, 0)], bytes(16)
    path = tmp_path / "red.gguf"
    path.write_bytes(gguf.build())
    with pytest.raises(ModelFileError) as caught:
        dry_run(path, [Request(512, 1, 1)])
    assert "\x1b" not in caught.value.message and "\x07" not in caught.value.message


def test_a_time_limit(synthetic: SyntheticModels) -> None:
    with pytest.raises(ModelFileError, match="still busy"):
        dry_run(synthetic("llama"), [Request(512, 1, 1)], time_limit=0.001)


def test_answers_are_remembered_by_the_identity_of_the_file(
    synthetic: SyntheticModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(synthetic("llama").read_bytes())
    header = read_header(path)
    results = tmp_path / "results"
    first = exact_planner(path, header, memory_of_results=results)
    (remembered,) = results.iterdir()
    with monkeypatch.context() as no_child:
        no_child.setattr(sys, "executable", "/nonexistent")
        assert exact_planner(path, header, memory_of_results=results).lines == first.lines
    remembered.write_text("{]")
    assert exact_planner(path, header, memory_of_results=results).lines == first.lines
    assert json.loads(remembered.read_text())
    path.write_bytes(synthetic("llama", n_head_kv=4).read_bytes())
    other = exact_planner(path, read_header(path), memory_of_results=results)
    assert other.lines != first.lines and len(list(results.iterdir())) == 2


def test_a_file_on_a_server(synthetic: SyntheticModels, tmp_path: Path) -> None:
    """Only its header is there; the answers are remembered by the hash that the server gave."""
    path = synthetic("gemma2")
    whole = path.read_bytes()
    source = MemorySource(whole[: read_header(path).data_offset], "far.gguf", len(whole))
    planner = exact_planner(source, parse_header(source), memory_of_results=tmp_path, key="sha256:abc")
    assert planner.lines == exact_planner(path, read_header(path)).lines
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="identity"):
        exact_planner(source, parse_header(source), memory_of_results=tmp_path)


def test_where_the_formula_is_wrong_the_engine_is_right(synthetic: SyntheticModels) -> None:
    """A header that claims another shape than the file has stands for a rule that we got wrong."""
    path = synthetic("llama", n_layer=3)
    wrong = read_header(synthetic("llama", n_layer=2))
    header = Header(**{**vars(read_header(path)), "metadata": wrong.metadata})
    planner = exact_planner(path, header, settings=SETTINGS)
    right = Planner(read_header(path))
    assert set(planner.disagrees) == {p.label for p in SETTINGS}
    for label in ("f16", "q8_0/q4_0"):
        pair = parse_pair(label)
        assert planner.cache_bytes(pair, 10_000) == pytest.approx(
            right.cache_bytes(pair, 10_000), abs=0.03 * MIB
        )
        assert planner.bytes_per_token(pair) == pytest.approx(right.bytes_per_token(pair), rel=0.001)
        assert any("engine's" in note for note in planner.plan(pair, 4096).unknown)


def test_the_child_limits_its_memory() -> None:
    assert dryrun.ADDRESS_SPACE <= 16 << 30
