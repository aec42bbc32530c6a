"""The rules of architectures for which there is no synthetic model, against llama.cpp's own words.

The expected values follow ``load_arch_hparams`` and ``create_memory`` of each architecture by hand.
"""

from __future__ import annotations

from typing import Any

import pytest

from models.architectures import UNPLANNED
from models.geometry import Shape, read_shape
from models.header import parse_header
from models.plan import MAX_CTX, Planner
from quantize.cache_types import parse_pair
from quantize.errors import ModelFileError
from tests.models.gguf_bytes import ARRAY, INT32, STRING, UINT32, Gguf, tensor, value
from tests.models.header_mutations import Endless


def model(arch: str, **keys: Any) -> Gguf:
    """A header of 8 layers, 4 heads of 64 and 2 KV heads, and the keys of the test (``__`` for a dot)."""
    gguf = Gguf(keys=[("general.architecture", value(STRING, arch))], tensors=[tensor("x", (32,), 0, 0)])
    basic = {
        "block_count": 8,
        "embedding_length": 256,
        "context_length": 4096,
        "attention__head_count": 4,
        "attention__head_count_kv": 2,
    }
    for name, number in (basic | keys).items():
        name = f"{arch}.{name.replace('__', '.')}"
        if isinstance(number, list):
            gguf.key(name, ARRAY, (INT32, number))
        elif number is not None:
            gguf.key(name, UINT32, number)
    return gguf


def shape(arch: str, **keys: Any) -> Shape:
    return read_shape(parse_header(Endless(model(arch, **keys).build())))


def slides(arch: str, **keys: Any) -> str:
    """``s`` for layers that slide, ``.`` for those that see everything."""
    return "".join("s" if layer.slides else "." for layer in shape(arch, **keys).layers)


@pytest.mark.parametrize(
    ("arch", "keys", "pattern"),
    [
        ("gemma2", {}, "s.s.s.s."),
        ("cohere2", {"attention__sliding_window": 64}, "sss.sss."),
        ("cohere2moe", {"attention__sliding_window": 64}, ".sss.sss"),
        ("laguna", {"attention__sliding_window": 64}, ".sss.sss"),
        ("laguna", {}, "........"),
        ("smallthinker", {"attention__sliding_window": 64}, ".sss.sss"),
        ("plamo3", {"attention__sliding_window": 64}, "sssssss."),
        ("gemma3", {"attention__sliding_window": 64}, "sssss.ss"),
        ("gemma3", {"attention__sliding_window": 64, "attention__sliding_window_pattern": 1}, "........"),
        ("gemma3", {"attention__sliding_window": 64, "attention__sliding_window_pattern": 0}, "ssssssss"),
        ("llama4", {}, "sss.sss."),
        ("llama4", {"attention__sliding_window": 0}, "........"),
        ("exaone4", {"attention__sliding_window": 64}, "........"),
        (
            "mimo2",
            {"attention__sliding_window": 9, "attention__sliding_window_pattern": [1, 0] * 4},
            "s.s.s.s.",
        ),
        ("phi3", {"attention__sliding_window": 64}, "........"),
        ("llama", {"attention__sliding_window": 64}, "........"),
        ("gemma2", {"nextn_predict_layers": 1}, "s.s.s.s."),
    ],
)
def test_which_layers_slide(arch: str, keys: dict[str, Any], pattern: str) -> None:
    assert slides(arch, **keys) == pattern


def test_widths_that_do_not_come_from_the_file() -> None:
    assert shape("gemma2").n_swa == 4096
    assert shape("llama4").n_swa == 8192
    assert shape("llama4", attention__sliding_window=64).n_swa == 8192
    assert shape("smallthinker", attention__sliding_window=64).n_swa == 4096
    assert slides("exaone4", block_count=64)[:8] == "sss.sss."
    assert shape("exaone4", block_count=64).n_swa == 4096


def test_a_width_that_the_file_must_give() -> None:
    with pytest.raises(ModelFileError, match="sliding_window"):
        shape("gpt-oss")
    with pytest.raises(ModelFileError, match="which layers"):
        shape("mimo2", attention__sliding_window=64)


SSM = {"ssm__conv_kernel": 4, "ssm__inner_size": 512, "ssm__state_size": 16, "ssm__group_count": 2}


@pytest.mark.parametrize(
    ("arch", "keys", "values"),
    [
        # (kernel - 1) * (inner + 2 * groups * state) + state * inner; mamba and jamba have no groups
        ("mamba", SSM, 3 * 512 + 16 * 512),
        ("mamba2", SSM, 3 * (512 + 64) + 16 * 512),
        ("rwkv6", {"wkv__head_size": 64}, 2 * 256 + 256 * 64),
        ("rwkv7", {"wkv__head_size": 64, "token_shift_count": 3}, 3 * 256 + 256 * 64),
    ],
)
def test_recurrent_states(arch: str, keys: dict[str, Any], values: int) -> None:
    found = shape(arch, **keys)
    assert found.recurrent_bytes == 8 * 4 * values
    assert not found.stores_kv


@pytest.mark.parametrize(
    ("arch", "keys", "layers", "values"),
    [
        ("jamba", SSM | {"attention__head_count_kv": [0, 2] * 4}, "r.r.r.r.", 3 * 512 + 16 * 512),
        ("plamo2", SSM | {"attention__head_count_kv": [0, 0, 2, 0] * 2}, "rr.rrr.r", 3 * 576 + 16 * 512),
        ("qwen3next", SSM, "rrr.rrr.", 3 * 576 + 16 * 512),
        ("qwen35", SSM | {"full_attention_interval": 2}, "r.r.r.r.", 3 * 576 + 16 * 512),
        ("qwen35", SSM | {"attention__recurrent_layers": [0, 1] * 4}, ".r.r.r.r", 3 * 576 + 16 * 512),
        ("minimax-01", {}, "rrrrrrr.", 64 * 64 * 4),
        ("lfm2moe", {"shortconv__l_cache": 3, "attention__head_count_kv": [0, 2] * 4}, "r.r.r.r.", 256 * 2),
        (
            "kimi-linear",
            {"ssm__conv_kernel": 4, "kda__head_dim": 32, "attention__head_count_kv": [0, 0, 0, 1] * 2},
            "rrr.rrr.",
            3 * 3 * 4 * 32 + 32 * 32 * 4,
        ),
    ],
)
def test_hybrids(arch: str, keys: dict[str, Any], layers: str, values: int) -> None:
    found = shape(arch, **keys)
    assert "".join("r" if layer.recurrent else "." for layer in found.layers) == layers
    assert [layer.stores_kv for layer in found.layers] == [c == "." for c in layers]
    assert found.recurrent_bytes == layers.count("r") * 4 * values


def test_nemotron_has_layers_with_neither() -> None:
    keys = SSM | {"attention__head_count_kv": [0, 2, 0, 0] * 2, "feed_forward_length": [0, 0, 512, 0] * 2}
    found = shape("nemotron_h", **keys)
    assert [(x.recurrent, x.stores_kv) for x in found.layers[:4]] == [
        (True, False),
        (False, True),
        (False, False),
        (True, False),
    ]


def test_falcon_h1_has_both_in_every_layer() -> None:
    assert all(x.recurrent and x.stores_kv for x in shape("falcon-h1", **SSM).layers)


def test_layers_for_drafts_have_no_cache() -> None:
    assert [x.stores_kv for x in shape("glm4moe", nextn_predict_layers=2).layers] == [True] * 6 + [False] * 2


def test_layers_that_are_gone_through_several_times() -> None:
    assert len(shape("nanbeige", num_loops=3).base) == 24
    with pytest.raises(ModelFileError, match="impossible number of layers"):
        shape("nanbeige", num_loops=100)


def test_head_counts_per_layer() -> None:
    found = shape("deci", attention__head_count_kv=[1, 2, 4, 2] * 2)
    assert [h.n_head_kv for h in found.base] == [1, 2, 4, 2] * 2
    pair = parse_pair("f16")
    planner = Planner(parse_header(Endless(model("deci", attention__head_count_kv=[1, 2, 4, 2] * 2).build())))
    assert planner.bytes_per_token(pair) == 2 * (1 + 2 + 4 + 2) * 2 * 64 * 2


def test_without_kv_heads_there_are_as_many_as_heads() -> None:
    assert shape("llama", attention__head_count_kv=None).base[0].n_head_kv == 4


def test_latent_attention_needs_both_keys() -> None:
    both = {"attention__key_length_mla": 96, "attention__value_length_mla": 64}
    assert shape("deepseek2", **both).mla
    assert not shape("deepseek2", attention__key_length_mla=96).mla
    assert not shape("llama", **both).mla


def test_one_type_for_latent_attention() -> None:
    keys = {"attention__key_length_mla": 96, "attention__value_length_mla": 64}
    planner = Planner(parse_header(Endless(model("deepseek2", **keys).build())))
    assert "same type" in planner.refusal(parse_pair("q8_0/q4_0"))
    assert not planner.refusal(parse_pair("q8_0"))


def test_a_model_without_a_growing_cache_reaches_everything() -> None:
    planner = Planner(parse_header(Endless(model("mamba", **SSM).build())))
    row = planner.row(parse_pair("q1_0"), n_ctx=4096, budget=1 << 30)
    assert (row.max_ctx_memory, row.max_ctx, row.limit, row.bytes_per_token) == (MAX_CTX, 4096, "trained", 0)
    assert not row.refused


@pytest.mark.parametrize("arch", sorted(UNPLANNED))
def test_what_has_no_formula_says_so(arch: str) -> None:
    assert any("dry run" in sentence for sentence in shape(arch).unknown)
