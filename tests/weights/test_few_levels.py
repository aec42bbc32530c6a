"""Ternary and 1-bit files end to end: read, planned, loaded, talked to, and their cache changed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gguf import GGUFReader

from app.engine.protocol import Sampling
from models.cpu import cpu_features
from models.header import read_header
from models.levels import look_at
from models.local import find_local, judge_file
from models.plan import Planner
from models.resolve import BUILTIN, resolve
from models.splits import read_model
from models.tensor_types import TENSOR_TYPES
from quantize.cache_types import parse_pair
from quantize.weights.file_types import FILE_TYPES
from quantize.weights.process import QuantizeJob, run
from tests.engine.harness import FILLER, Harness, user
from tests.synthetic import SyntheticModels

KINDS = ("tq2_0", "tq1_0", "q2_0", "q1_0")
Q8_0 = 8
QUESTION = user("What is the KV cache?")


@pytest.fixture(scope="session")
def few_levels(tmp_path_factory: pytest.TempPathFactory, synthetic: SyntheticModels) -> Callable[[str], Path]:
    """A file of each kind: of the built-in ternary model, and for one bit of a synthetic one."""
    folder = tmp_path_factory.mktemp("few-levels")

    def make(kind: str) -> Path:
        if kind == "tq2_0":
            return resolve("builtin-ternary")
        path = folder / f"{kind}.gguf"
        if not path.exists():
            one_bit = synthetic("llama", levels=2, n_embd=256, head_dim=128, n_head=2, n_head_kv=1)
            source = one_bit if kind == "q1_0" else resolve("builtin-ternary")
            job = QuantizeJob(str(source), str(path), FILE_TYPES[kind].id, embedding_type=Q8_0)
            assert list(run(job))[-1] == {"event": "done"}
        return path

    return make


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """An engine in a process of its own."""
    harness = Harness(tmp_path_factory.mktemp("logs") / "engine.log")
    harness.start()
    yield harness
    harness.client.close()


@pytest.mark.parametrize("kind", KINDS)
def test_read_and_planned(few_levels: Callable[[str], Path], kind: str) -> None:
    path = few_levels(kind)
    header = read_header(path)
    assert kind in {TENSOR_TYPES[t.type_id].name for t in header.tensors}
    assert header.file_bytes == path.stat().st_size
    assert look_at(path, read_model(path)).levels == (2 if kind == "q1_0" else 3)
    assert Planner(header).plan(parse_pair("q8_0"), 2048).total > header.file_bytes // 2
    assert judge_file(path, 1 << 30).runnable


def test_the_reader_of_the_gguf_package_does_not_know_q2_0(few_levels: Callable[[str], Path]) -> None:
    """Why there is one of our own."""
    with pytest.raises(ValueError, match="42"):
        GGUFReader(few_levels("q2_0"))


@pytest.mark.parametrize("kind", KINDS)
def test_talked_to_while_the_cache_changes(
    engine: Harness, few_levels: Callable[[str], Path], kind: str
) -> None:
    loaded = engine.load(few_levels(kind), 1024)
    assert loaded.model.transcodes
    sampling = Sampling(temperature=0.0, max_tokens=16)
    before = engine.generate(QUESTION, sampling)
    assert before.n_prompt > 5 and before.text
    changed = engine.set_cache("q8_0", "q4_0", tail=0)
    assert (changed.type_k, changed.type_v, changed.reprefilled) == ("q8_0", "q4_0", False)
    assert changed.bytes_after < changed.bytes_before / 2
    after = engine.generate(QUESTION, sampling)
    assert after.n_cached == after.n_prompt - 1 and after.text
    back = engine.set_cache("f16", "f16", 2048)
    assert (back.n_ctx, back.reprefilled) == (2048, False)


def test_the_same_weights_give_the_same_words(engine: Harness, few_levels: Callable[[str], Path]) -> None:
    """TQ1_0 and TQ2_0 are two ways to write the same weights."""
    words = []
    for kind in ("tq2_0", "tq1_0"):
        engine.load(few_levels(kind), 1024)
        words.append(engine.generate(QUESTION, Sampling(temperature=0.0, max_tokens=40)).text)
    assert words[0] == words[1] and len(words[0].split()) > 5


def test_the_built_in_ternary_model_is_offered_beside_its_sibling(tmp_path: Path) -> None:
    dense, ternary = list(find_local(tmp_path, (), tmp_path))[:2]
    assert [dense.name, ternary.name] == list(BUILTIN)
    assert ternary.n_bytes < dense.n_bytes / 2
    assert "comes with Stretch" in dense.place and "8-bit" in dense.place
    assert "comes with Stretch" in ternary.place and "ternary" in ternary.place and "fast" in ternary.place


def test_a_long_text_through_every_kind(engine: Harness, few_levels: Callable[[str], Path]) -> None:
    """More than one batch, with a compressed cache from the start."""
    for kind in ("tq1_0", "q1_0"):
        engine.load(few_levels(kind), 2048, ("q8_0", "q8_0"))
        done = engine.generate(user(FILLER * 40), Sampling(temperature=0.0, max_tokens=2))
        assert done.n_prompt > 600


def test_stretch_plan_takes_them(
    few_levels: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from app.cli import main

    assert main(["plan", str(few_levels("q2_0")), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert cpu_features().neon or "tq2_0" in said["notes"][0], "slow on this processor"
    assert said["exact"] and said["file_bytes"] == few_levels("q2_0").stat().st_size
