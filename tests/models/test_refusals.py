"""Every reason for which a file is refused, from a header that gives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.engine.budget import Process
from app.engine.protocol import Load
from app.engine.session import judge
from models.architectures import DIFFUSION, DRAFT, EMBEDDING
from models.cpu import CpuFeatures
from models.header import Header, parse_header
from models.local import judge_file
from models.plan import Planner
from models.refusals import Why, check_runs, refusal, slow_weights
from models.tensor_types import TENSOR_TYPES
from quantize.cache_types import parse_pair
from quantize.errors import ModelFileError
from tests.models.gguf_bytes import STRING, UINT32, Gguf, tensor, value
from tests.models.header_mutations import Endless

F32, Q4_0, TQ2_0, Q2_0 = 0, 2, 35, 42
IDS_OF_FORKS = (43, 50, 133, 137, 146, 158, 202, 337, 2**31)
BITNET_2B = {
    "block_count": 30,
    "context_length": 4096,
    "embedding_length": 2560,
    "feed_forward_length": 6912,
    "attention.head_count": 20,
    "attention.head_count_kv": 5,
}


def model(
    arch: str = "llama",
    *,
    weights: int = Q4_0,
    room: int = 0,
    general: dict[str, str] | None = None,
    **keys: int | str,
) -> Gguf:
    """A header of a small model with two matrices of 256 x 512 of type ``weights``.

    Args:
        room: bytes from one matrix to the next; 0 takes what the type needs.
    """
    gguf = Gguf(keys=[("general.architecture", value(STRING, arch))])
    for name, text in (general or {}).items():
        gguf.key(f"general.{name}", STRING, text)
    basic: dict[str, int | str] = {
        "block_count": 2,
        "context_length": 4096,
        "embedding_length": 256,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
    }
    for name, data in (basic | keys).items():
        gguf.key(f"{arch}.{name}", STRING if isinstance(data, str) else UINT32, data)
    known = TENSOR_TYPES.get(weights)
    room = room or (256 * 512 // known.block_size * known.type_size if known else 4096)
    gguf.tensors = [
        tensor("blk.0.attn_q.weight", (256, 512), weights, 0),
        tensor("blk.0.attn_k.weight", (256, 512), weights, room),
    ]
    return gguf


def header(gguf: Gguf) -> Header:
    return parse_header(Endless(gguf.build()))


@dataclass(frozen=True)
class Case:
    """A header, why it is refused, and words of the reason and of the alternative."""

    why: Why
    gguf: Gguf
    reason: str
    instead: str = ""
    general: dict[str, str] = field(default_factory=dict)


NO_WEIGHTS = model()
NO_WEIGHTS.tensors = []

CASES: dict[str, Case] = {
    "adapter": Case(Why.COMPANION, model(general={"type": "adapter"}), "LoRA", "model itself"),
    "statistics": Case(Why.COMPANION, model(general={"type": "imatrix"}), "statistics", "model itself"),
    "projector": Case(Why.COMPANION, model("clip"), "pictures", "model itself"),
    "mmproj": Case(Why.COMPANION, model(general={"type": "mmproj"}), "pictures", "model itself"),
    "control vector": Case(Why.COMPANION, model("controlvector"), "steers", "model itself"),
    "i2_s": Case(
        Why.I2_S, model("bitnet-b1.58", weights=36, room=256 * 512 // 4 + 32), "i2_s", "stretch convert"
    ),
    "i2_s in a llama": Case(
        Why.I2_S, model(weights=36, room=256 * 512 // 4 + 32), "bitnet.cpp", "stretch convert"
    ),
    "tl1": Case(Why.I2_S, model("bitnet", weights=38), "tl1", "TQ2_0"),
    "iq4_nl_4_4 has the same id": Case(
        Why.OLD_TYPE, model(weights=36, room=256 * 512 // 32 * 18), "removed from llama.cpp", "newer file"
    ),
    "q4_0_4_8": Case(Why.OLD_TYPE, model(weights=32), "q4_0_4_8", "Take the Q4_0 file"),
    "q4_2": Case(Why.OLD_TYPE, model(weights=4), "2023", "newer file"),
    "pq2_0": Case(Why.FORK_TYPE, model(weights=142), "PrismML", "Q2_0_g64"),
    "iq4_ks": Case(Why.FORK_TYPE, model(weights=144), "of a fork", "ik_llama.cpp"),
    "a type after ours": Case(Why.FORK_TYPE, model(weights=43), "type 43", "Q4_K_M"),
    "unknown architecture": Case(Why.ARCHITECTURE, model("llama9"), "'llama9'", "newer version"),
    "architecture of bitnet.cpp": Case(
        Why.ARCHITECTURE, model("bitnet-b1.58", weights=TQ2_0), "only bitnet.cpp runs", "TriLM"
    ),
    "BitNet 2B by its sizes": Case(
        Why.ACTIVATION, model("bitnet", weights=TQ2_0, **BITNET_2B), "squared ReLU", "Bonsai"
    ),
    "BitNet 2B by its activation": Case(
        Why.ACTIVATION, model("bitnet", weights=TQ2_0, hidden_activation="relu2"), "squared ReLU", "Bonsai"
    ),
    "no weights": Case(Why.EMPTY, NO_WEIGHTS, "no weights", "model itself"),
    **{f"embedding {a}": Case(Why.NOT_CHAT, model(a), "vectors", "for chat") for a in sorted(EMBEDDING)},
    **{f"diffusion {a}": Case(Why.NOT_CHAT, model(a), "at once", "for chat") for a in sorted(DIFFUSION)},
    **{f"draft {a}": Case(Why.COMPANION, model(a), "another model", "itself") for a in sorted(DRAFT)},
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_refused_and_what_to_take_instead(name: str) -> None:
    case = CASES[name]
    found = refusal(header(case.gguf))
    assert found is not None and found.why == case.why
    assert case.reason in found.message and case.instead in found.hint
    assert found.message.endswith(".") and found.message.count("\n") == 0
    with pytest.raises(ModelFileError) as caught:
        Planner(header(case.gguf))
    assert (caught.value.message, caught.value.hint) == (found.message, found.hint)


def test_every_reason_is_tried() -> None:
    assert {case.why for case in CASES.values()} == set(Why)


@pytest.mark.parametrize("type_id", IDS_OF_FORKS)
def test_no_type_beyond_the_engine_s_gets_through(type_id: int) -> None:
    with pytest.raises(ModelFileError, match="does not read"):
        check_runs(header(model(weights=type_id)))


@pytest.mark.parametrize(
    "gguf",
    [
        model("bitnet", weights=TQ2_0),
        model("bitnet", weights=TQ2_0, hidden_activation="silu", **BITNET_2B),
        model(weights=TQ2_0, **BITNET_2B),
        model("qwen3", weights=Q2_0),
        *(model(weights=i) for i in TENSOR_TYPES),
        model(general={"type": "model"}),
    ],
)
def test_what_runs(gguf: Gguf) -> None:
    assert refusal(header(gguf)) is None


def test_escape_sequences_of_a_file_stay_in_it() -> None:
    found = refusal(header(model("\x1b[31mred\x07")))
    assert found is not None and "\x1b" not in found.message and "\x07" not in found.message


def test_heads_that_the_blocks_of_a_cache_type_do_not_divide() -> None:
    """The model runs, only not with this cache: the reason names the type that is nearest."""
    gguf = model(**{"attention.key_length": 80, "attention.value_length": 80})
    planner = Planner(header(gguf))
    reason = planner.refusal(parse_pair("q8_0"))
    assert "blocks of 32" in reason and "heads have 80" in reason and "fits is f16" in reason
    assert not planner.refusal(parse_pair("f16"))
    row = planner.row(parse_pair("q8_0/f16"), n_ctx=1024, budget=1 << 30)
    assert row.refused == planner.refusal(parse_pair("q8_0/f16"))
    narrow = Planner(header(model()))
    assert not narrow.refusal(parse_pair("q8_0")) and "heads have 64" in narrow.refusal(parse_pair("q1_0"))


def test_weights_that_are_slow_here() -> None:
    x86, arm = CpuFeatures(avx2=True), CpuFeatures(neon=True)
    assert "tq2_0" in slow_weights(header(model(weights=Q2_0)), x86)
    assert not slow_weights(header(model(weights=Q2_0)), arm)
    assert not slow_weights(header(model(weights=TQ2_0)), x86)


# --------------------------------------------------------------------------- where it counts


@pytest.fixture
def i2_s(tmp_path: Path) -> Path:
    """A file that llama.cpp would take once Stretch's own type is registered under the same id."""
    gguf = CASES["i2_s in a llama"].gguf
    path = tmp_path / "falcon-i2_s.gguf"
    path.write_bytes(gguf.build() + bytes(2 * (256 * 512 // 4 + 32)))
    return path


def test_loading_refuses_before_llama_cpp_sees_the_file(i2_s: Path) -> None:
    with pytest.raises(ModelFileError, match="i2_s"):
        judge(Load(1, str(i2_s), 0, "f16", "f16"), Process())


def test_the_picker_says_why(i2_s: Path) -> None:
    verdict = judge_file(i2_s, 8 << 30)
    assert not verdict.runnable and "i2_s" in verdict.sentence and "stretch convert" in verdict.instead


def test_stretch_plan_says_why(i2_s: Path, capsys: Any) -> None:
    from app.cli import main

    assert main(["plan", str(i2_s)]) == 1
    said = capsys.readouterr().err
    assert "i2_s" in said and "stretch convert" in said
