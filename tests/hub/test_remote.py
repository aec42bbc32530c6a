"""Headers are read before anything else is fetched, and give the same verdict as the whole file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.header import read_header
from models.hub.client import Hub
from models.hub.files import HubModel, Repo
from models.hub.prospects import Prospect, Prospects, best
from models.hub.remote import MOST_FETCHED, read_remote
from models.local import Verdict, judge_file
from models.stretch_row import StretchRow
from quantize.errors import HubError, ModelFileError
from tests.hub.blob import Blob
from tests.hub.conftest import QUICK
from tests.hub.server import LoopbackHub
from tests.models.gguf_bytes import ARRAY, INT32, STRING, UINT32, Gguf, string, tensor
from tests.synthetic import SyntheticModels

PLENTY = 64 << 30


def big_gguf(n_vocab: int, quant: int, n_layer: int = 4, word: str = "word") -> bytes:
    """The header of a llama with a vocabulary of some megabytes, and a hole for its weights."""
    made = Gguf()
    for key, value in (
        ("block_count", n_layer),
        ("context_length", 32768),
        ("embedding_length", 256),
        ("feed_forward_length", 512),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ):
        made.key(f"llama.{key}", UINT32, value)
    made.key("general.file_type", UINT32, quant)
    made.key("general.license", STRING, "mit" * (quant % 5 + 1))
    made.key("tokenizer.ggml.model", STRING, "gpt2")
    made.key("tokenizer.ggml.tokens", ARRAY, (STRING, [f"{word}{i:06}" for i in range(n_vocab)]))
    made.key("tokenizer.ggml.token_type", ARRAY, (INT32, [1] * n_vocab))
    made.key("tokenizer.ggml.merges", ARRAY, (STRING, [f"{i:06} {i:06}" for i in range(n_vocab)]))
    made.key("tokenizer.ggml.bos_token_id", UINT32, 1)
    place, n_bytes = 0, {8: 34, 2: 18}[quant]
    shapes = [("token_embd", (256, n_vocab))]
    for layer in range(n_layer):
        shapes += [
            (f"blk.{layer}.attn_q", (256, 256)),
            (f"blk.{layer}.attn_k", (256, 128)),
            (f"blk.{layer}.attn_v", (256, 128)),
            (f"blk.{layer}.attn_output", (256, 256)),
            (f"blk.{layer}.ffn_gate", (256, 512)),
            (f"blk.{layer}.ffn_up", (256, 512)),
            (f"blk.{layer}.ffn_down", (512, 256)),
        ]
    for name, shape in shapes:
        made.tensors.append(tensor(f"{name}.weight", shape, quant, place))
        place += shape[0] * shape[1] // 32 * n_bytes
    return made.build() + b"\0" * place


@pytest.fixture
def prospects(hub: Hub) -> Iterator[Prospects]:
    """Judges for a machine with plenty of memory."""
    with Prospects(hub, lambda: PLENTY, patience=QUICK) as made:
        yield made


def one(server: LoopbackHub, hub: Hub, data: bytes | Blob) -> tuple[Repo, HubModel]:
    server.add("o/r", {"m.gguf": data})
    repo = hub.repo("o/r")
    return repo, repo.models[0]


def test_the_header_is_that_of_the_file(server: LoopbackHub, hub: Hub, synthetic: SyntheticModels) -> None:
    path = synthetic("qwen3")
    repo, model = one(server, hub, path.read_bytes())
    with hub.session() as session:
        found = read_remote(hub, session, repo, model)
    local = read_header(path)
    assert found.header.metadata == local.metadata
    assert found.header.tensors == local.tensors and found.header.file_bytes == local.file_bytes


def test_only_the_header_is_fetched(
    server: LoopbackHub, hub: Hub, tmp_path: Path, prospects: Prospects
) -> None:
    data = big_gguf(60_000, 8)
    repo, model = one(server, hub, data)
    verdict = prospects.judge(repo, model).verdict
    (tmp_path / "m.gguf").write_bytes(data)
    assert verdict == judge_file(tmp_path / "m.gguf", PLENTY)
    assert verdict.runnable and verdict.rows
    header_bytes = read_header(tmp_path / "m.gguf").data_offset
    assert server.fetched() < header_bytes + (4 << 20) < len(data)
    before = len(server.seen)
    assert prospects.judge(repo, model).verdict == verdict
    assert len(server.seen) == before, "it is remembered"


def test_a_vocabulary_is_fetched_once_for_all_quantizations(
    server: LoopbackHub, hub: Hub, prospects: Prospects
) -> None:
    server.add(
        "o/r",
        {
            "m-Q8_0.gguf": big_gguf(60_000, 8),
            "m-Q4_0.gguf": big_gguf(60_000, 2),
            "other-Q4_1.gguf": big_gguf(60_000, 2, n_layer=6, word="wort"),
        },
    )
    repo = hub.repo("o/r")
    found = {p.model.quant: p for p in prospects.judge_all(repo)}
    assert all(p.verdict.runnable for p in found.values()), found
    assert found["Q8_0"].bits == pytest.approx(8.5, abs=0.01)
    assert found["Q4_0"].bits == pytest.approx(4.5, abs=0.01)
    assert found["Q4_0"].n_ctx_train == 32768 and found["Q4_0"].architecture == "llama"
    sent = {q: sum(s.n_sent for s in server.requests(f"-{q}.gguf") if s.server == "store") for q in found}
    assert sent["Q8_0"] > 3_000_000, "the first one is read"
    assert sent["Q4_0"] < 1_000_000, "the vocabulary is recognised"
    assert sent["Q4_1"] > 2_000_000, "another vocabulary is not"


def test_a_vocabulary_that_only_begins_the_same(server: LoopbackHub, hub: Hub, prospects: Prospects) -> None:
    """The beginning deceives: the reader notices and reads everything."""
    first, second = big_gguf(60_000, 8), bytearray(big_gguf(60_000, 2))
    old = string("word030000")
    second = second.replace(old, string("a longer word030000"))
    server.add("o/r", {"m-Q8_0.gguf": first, "m-Q4_0.gguf": bytes(second)})
    repo = hub.repo("o/r")
    found = {p.model.quant: p for p in prospects.judge_all(repo)}
    assert found["Q4_0"].verdict.runnable and found["Q4_0"].bits == pytest.approx(4.5, abs=0.01)


def test_a_split_model_is_judged_as_a_whole(server: LoopbackHub, hub: Hub) -> None:
    parts = {}
    for i in range(2):
        made = Gguf()
        made.key("split.no", UINT32, i).key("split.count", UINT32, 2)
        made.tensors.append(tensor(f"blk.{i}.attn_q.weight", (256, 256), 8, 0))
        made.data = b"\0" * (256 * 256 // 32 * 34)
        parts[f"m-Q8_0-0000{i + 1}-of-00002.gguf"] = made.build()
    server.add("o/r", dict(parts))
    repo = hub.repo("o/r")
    (model,) = repo.models
    with hub.session() as session:
        found = read_remote(hub, session, repo, model)
    assert found.header.n_parts == 2 and [t.part for t in found.header.tensors] == [0, 1]


def test_a_refused_file_says_why_before_the_download(
    server: LoopbackHub, hub: Hub, prospects: Prospects
) -> None:
    made = Gguf(keys=[])
    made.key("general.architecture", STRING, "clip")
    made.tensors.append(tensor("v.weight", (32, 32), 8, 0))
    made.data = b"\0" * (32 * 34)
    repo, model = one(server, hub, made.build())
    verdict = prospects.judge(repo, model).verdict
    assert not verdict.runnable and "cannot run alone" in verdict.sentence and verdict.instead


def test_a_damaged_file_does_not_run(server: LoopbackHub, hub: Hub, prospects: Prospects) -> None:
    repo, model = one(server, hub, b"<html>" * 100)
    verdict = prospects.judge(repo, model).verdict
    assert (verdict.runnable, verdict.sentence) == (False, "m.gguf is not a GGUF file.")


def test_a_header_that_grows_for_ever(server: LoopbackHub, hub: Hub, prospects: Prospects) -> None:
    """A list of strings without an end: the reading ends, and not much was fetched."""
    head = struct.pack("<4sIQQ", b"GGUF", 3, 1, 2)
    head += string("general.architecture") + struct.pack("<I", STRING) + string("llama")
    head += string("tokenizer.ggml.tokens") + struct.pack("<IIQ", ARRAY, STRING, 4_000_000)
    words = string("x" * 56) * 1024  # 64 KiB, as the blocks of a blob

    class Endless(Blob):
        def read(self, offset: int, n: int) -> bytes:
            data = head + words * (-(-(offset + n - len(head)) // len(words)) if offset == 0 else 0)
            if offset == 0:
                return data[:n]
            at = (offset - len(head)) % len(words)
            return (words * (n // len(words) + 2))[at : at + n]

    blob = Endless(1 << 40)
    blob.__dict__["sha256"] = "0" * 64
    repo, model = one(server, hub, blob)
    with pytest.raises(HubError, match="does not end within 64 MiB"):
        prospects.judge(repo, model)
    assert server.fetched() <= MOST_FETCHED


def test_a_cut_connection_is_tried_again(server: LoopbackHub, hub: Hub, prospects: Prospects) -> None:
    repo, model = one(server, hub, big_gguf(30_000, 8))
    server.faults.statuses["store"] = [(503, {})]
    with pytest.raises(HubError, match="trouble of its own"):
        prospects.judge(repo, model)
    server.faults.statuses["store"] = [(503, {}), (200, {})]
    assert prospects.judge(repo, model).verdict.runnable


def test_a_connection_that_always_breaks_brings_the_header_in_pieces(
    server: LoopbackHub, hub: Hub, prospects: Prospects
) -> None:
    data = big_gguf(30_000, 8)
    repo, model = one(server, hub, data)
    server.faults.cut_after = 100_000
    assert prospects.judge(repo, model).verdict.runnable
    assert server.fetched() < 2 * len(data)


def test_a_store_without_ranges(server: LoopbackHub, hub: Hub, prospects: Prospects) -> None:
    server.faults.no_ranges = True
    repo, model = one(server, hub, big_gguf(30_000, 8))
    assert prospects.judge(repo, model).verdict.runnable


def test_one_file_that_cannot_be_had_does_not_hide_the_others(
    server: LoopbackHub, hub: Hub, prospects: Prospects
) -> None:
    server.add("o/r", {"m-Q4_K_M.gguf": big_gguf(1000, 2), "m-Q8_0.gguf": b"<html>", "m-Q2_K.gguf": b""})
    found = {p.model.quant: p.verdict.runnable for p in prospects.judge_all(hub.repo("o/r"))}
    assert found == {"Q4_K_M": True, "Q8_0": False, "Q2_K": False}


def test_the_engine_is_asked_about_a_file_on_the_hub(
    server: LoopbackHub, hub: Hub, synthetic: SyntheticModels, tmp_path: Path, prospects: Prospects
) -> None:
    """The stretch table of the engine's own allocator, exact, from the header alone."""
    from models.exact import exact_planner

    path = synthetic("llama")
    repo, model = one(server, hub, path.read_bytes())
    planner = prospects.planner(repo, model, memory=tmp_path)
    local = exact_planner(path, read_header(path))
    assert planner.lines == local.lines
    assert planner.stretch_table(n_ctx=2048, budget=4 << 30) == local.stretch_table(
        n_ctx=2048, budget=4 << 30
    )
    assert list(tmp_path.iterdir()), "the answer is remembered by the hash of the file"


# --------------------------------------------------------------------------- the best


def prospect(quant: str, gib: float, bits: float, reach: int, *, runs: bool = True) -> Prospect:
    rows = (StretchRow("q8_0", "q8_0", 0, 1.0, 1, reach, reach, "memory"),)
    model = HubModel(f"m-{quant}.gguf", quant, ())
    object.__setattr__(model, "parts", (type("P", (), {"size": int(gib * 2**30), "digest": quant})(),))
    return Prospect(model, Verdict(runs, "", rows=rows), bits, 32768)


def chosen(*prospects: Prospect) -> str:
    found = best(prospects)
    return found.model.quant if found else ""


def test_the_best_is_fine_but_not_slow() -> None:
    four, five, eight = (
        prospect("Q4_K_M", 4.7, 4.9, 40_000),
        prospect("Q5_K_M", 5.5, 5.7, 30_000),
        prospect("Q8_0", 8.5, 8.5, 20_000),
    )
    assert chosen(prospect("Q2_K", 3.0, 3.2, 50_000), four, five, eight) == "Q4_K_M"
    assert chosen(five, eight) == "Q5_K_M", "the smallest where all are fine"


def test_small_models_take_fine_weights() -> None:
    assert chosen(prospect("Q4_K_M", 0.8, 4.9, 30_000), prospect("Q8_0", 1.5, 8.5, 30_000)) == "Q8_0"
    assert chosen(prospect("Q8_0", 1.0, 8.5, 30_000), prospect("F16", 1.9, 16.0, 30_000)) == "Q8_0", (
        "nothing is gained beyond 8 bits"
    )


def test_the_best_leaves_room_for_a_context() -> None:
    assert chosen(prospect("Q4_K_M", 4.7, 4.9, 3000), prospect("Q2_K", 3.0, 3.2, 20_000)) == "Q2_K"
    assert chosen(prospect("Q4_K_M", 4.7, 4.9, 3000), prospect("Q2_K", 3.0, 3.2, 4000)) == "Q2_K"
    assert chosen(prospect("Q4_K_M", 4.7, 4.9, 0, runs=False)) == ""
    assert chosen() == ""


def test_model_errors_are_not_hub_errors(server: LoopbackHub, hub: Hub) -> None:
    repo, model = one(server, hub, b"GGUF")
    with hub.session() as session, pytest.raises(ModelFileError):
        read_remote(hub, session, repo, model)
