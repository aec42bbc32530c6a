"""Every model of the catalog, from a header that the tests make with its geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from models.catalog import TIERS, CatalogModel, catalog
from models.cpu import CpuFeatures
from models.exact import exact_planner
from models.header import parse_header, read_header
from models.plan import Planner
from models.refusals import refusal
from quantize.cache_types import parse_pair
from tests.models.gguf_bytes import ARRAY, BOOL, INT32, UINT32, Gguf, tensor, value
from tests.models.gguf_bytes import STRING as TEXT
from tests.models.header_mutations import Endless
from tests.synthetic import SyntheticModels

F16 = parse_pair("f16")
KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Geometry:
    """What the model cards say."""

    gb: float
    arch: str
    n_layer: int
    n_head_kv: int
    head_dim: int
    n_ctx: int
    kib_per_token: int
    """Of an f16 cache, in the layers that see everything."""
    window_mib: int = 0
    """The f16 cache of the layers with a window."""
    license: str = "apache-2.0"
    growing: Callable[[int], bool] = lambda _layer: True
    """Which layers have a cache that holds every token."""
    window: int = 0
    sliding: Callable[[int], bool] = lambda _layer: False
    shared: int = 0


def every(n: int, first: int | None = None) -> Callable[[int], bool]:
    """Every n-th layer, the last of each n unless another one is ``first``."""
    return lambda i: i % n == (n - 1 if first is None else first)


def others(full: Callable[[int], bool]) -> Callable[[int], bool]:
    return lambda i: not full(i)


GRANITE = every(10, 5)
TABLE: dict[str, Geometry] = {
    "prism-ml/Bonsai-1.7B-gguf/Bonsai-1.7B-Q1_0.gguf": Geometry(0.24, "qwen3", 28, 8, 128, 32768, 112),
    "prism-ml/Bonsai-4B-gguf/Bonsai-4B-Q1_0.gguf": Geometry(0.57, "qwen3", 36, 8, 128, 32768, 144),
    "prism-ml/Bonsai-8B-gguf/Bonsai-8B-Q1_0.gguf": Geometry(1.15, "qwen3", 36, 8, 128, 65536, 144),
    "prism-ml/Ternary-Bonsai-8B-gguf/Ternary-Bonsai-8B-Q2_0_g64.gguf": Geometry(
        2.31, "qwen3", 36, 8, 128, 65536, 144
    ),
    "prism-ml/Bonsai-27B-gguf/Bonsai-27B-Q1_0.gguf": Geometry(
        3.8, "qwen35", 64, 4, 256, 262144, 64, growing=every(4)
    ),
    "bartowski/Qwen_Qwen3.5-0.8B-GGUF/Qwen_Qwen3.5-0.8B-Q4_K_M.gguf": Geometry(
        0.56, "qwen35", 24, 2, 256, 262144, 12, growing=every(4)
    ),
    "bartowski/Qwen_Qwen3.5-2B-GGUF/Qwen_Qwen3.5-2B-Q4_K_M.gguf": Geometry(
        1.4, "qwen35", 24, 2, 256, 262144, 12, growing=every(4)
    ),
    "unsloth/Qwen3.5-4B-GGUF/Qwen3.5-4B-Q4_K_M.gguf": Geometry(
        2.7, "qwen35", 32, 4, 256, 262144, 32, growing=every(4)
    ),
    "unsloth/Qwen3.5-9B-GGUF/Qwen3.5-9B-Q4_K_M.gguf": Geometry(
        5.6, "qwen35", 32, 4, 256, 262144, 32, growing=every(4)
    ),
    "unsloth/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf": Geometry(2.5, "qwen3", 36, 8, 128, 40960, 144),
    "Qwen/Qwen3-1.7B-GGUF/Qwen3-1.7B-Q8_0.gguf": Geometry(1.83, "qwen3", 28, 8, 128, 40960, 112),
    "google/gemma-4-E2B-it-qat-q4_0-gguf/gemma-4-E2B_q4_0-it.gguf": Geometry(
        3.35, "gemma4", 35, 1, 512, 131072, 6, 12, window=512, sliding=others(every(5)), shared=20
    ),
    "google/gemma-4-E4B-it-qat-q4_0-gguf/gemma-4-E4B_q4_0-it.gguf": Geometry(
        5.2, "gemma4", 42, 2, 512, 131072, 16, 40, window=512, sliding=others(every(6)), shared=18
    ),
    "google/gemma-4-12B-it-qat-q4_0-gguf/gemma-4-12b-it-qat-q4_0.gguf": Geometry(
        7.0, "gemma4", 48, 8, 512, 262144, 16, 480, window=1024, sliding=others(every(6))
    ),
    "ggml-org/gemma-3-1b-it-GGUF/gemma-3-1b-it-Q4_K_M.gguf": Geometry(
        0.81, "gemma3", 26, 1, 256, 32768, 4, 22, "gemma", window=512
    ),
    "hugging-quants/Llama-3.2-1B-Instruct-Q4_K_M-GGUF/llama-3.2-1b-instruct-q4_k_m.gguf": Geometry(
        0.81, "llama", 16, 8, 64, 131072, 32, license="llama3.2"
    ),
    "hugging-quants/Llama-3.2-3B-Instruct-Q4_K_M-GGUF/llama-3.2-3b-instruct-q4_k_m.gguf": Geometry(
        2.02, "llama", 28, 8, 128, 131072, 112, license="llama3.2"
    ),
    "bartowski/HuggingFaceTB_SmolLM3-3B-GGUF/HuggingFaceTB_SmolLM3-3B-Q4_K_M.gguf": Geometry(
        1.92, "smollm3", 36, 4, 128, 65536, 72
    ),
    "unsloth/Phi-4-mini-instruct-GGUF/Phi-4-mini-instruct-Q4_K_M.gguf": Geometry(
        2.5, "phi3", 32, 8, 128, 131072, 128, license="mit"
    ),
    "LiquidAI/LFM2.5-1.2B-Instruct-GGUF/LFM2.5-1.2B-Instruct-Q4_K_M.gguf": Geometry(
        0.73, "lfm2", 16, 8, 64, 128000, 12, license="lfm1.0", growing=(2, 5, 8, 10, 12, 14).__contains__
    ),
    "unsloth/LFM2.5-8B-A1B-GGUF/LFM2.5-8B-A1B-UD-Q4_K_M.gguf": Geometry(
        5.0, "lfm2moe", 24, 8, 64, 128000, 12, license="lfm1.0", growing=(2, 6, 10, 14, 18, 21).__contains__
    ),
    "bartowski/ibm-granite_granite-4.0-h-micro-GGUF/ibm-granite_granite-4.0-h-micro-Q4_K_M.gguf": Geometry(
        1.9, "granitehybrid", 40, 8, 64, 131072, 8, growing=GRANITE
    ),
    "bartowski/ibm-granite_granite-4.0-h-tiny-GGUF/ibm-granite_granite-4.0-h-tiny-Q4_K_M.gguf": Geometry(
        4.2, "granitehybrid", 40, 4, 128, 131072, 8, growing=GRANITE
    ),
    "unsloth/Ministral-3-3B-Instruct-2512-GGUF/Ministral-3-3B-Instruct-2512-Q4_K_M.gguf": Geometry(
        2.15, "mistral3", 26, 8, 128, 262144, 104
    ),
    "ggml-org/gpt-oss-20b-GGUF/gpt-oss-20b-mxfp4.gguf": Geometry(
        12.11, "gpt-oss", 24, 8, 64, 131072, 24, 18, window=128
    ),
    "unsloth/Qwen3.6-35B-A3B-GGUF/Qwen3.6-35B-A3B-UD-Q4_K_M.gguf": Geometry(
        21.0, "qwen35moe", 40, 2, 256, 262144, 20, growing=every(4)
    ),
}

IDS = {model.address: model for model in catalog()}


def made(g: Geometry, model: CatalogModel) -> Planner:
    """A planner on a GGUF header with the geometry of the table; the state of recurrent layers is the
    catalog's, which the table does not tell."""
    gguf = Gguf(keys=[("general.architecture", value(TEXT, g.arch))])
    layers = range(g.n_layer)
    keys: dict[str, Any] = {
        "block_count": g.n_layer,
        "context_length": g.n_ctx,
        "embedding_length": 1024,
        "attention.head_count": 16,
        "attention.head_count_kv": g.n_head_kv,
        "attention.key_length": g.head_dim,
        "attention.value_length": g.head_dim,
    }
    if g.window:
        keys["attention.sliding_window"] = g.window
    if g.arch == "gemma4":
        keys |= {f"attention.{side}_length_swa": 256 for side in ("key", "value")}
        keys["attention.shared_kv_layers"] = g.shared
        keys["attention.sliding_window_pattern"] = [g.sliding(i) for i in layers]
        if g.n_head_kv == 8:
            keys["attention.head_count_kv"] = [8 if g.sliding(i) else 1 for i in layers]
    elif g.arch in ("lfm2", "lfm2moe", "granitehybrid"):
        keys["attention.head_count_kv"] = [g.n_head_kv if g.growing(i) else 0 for i in layers]
    keys |= {k: v for k, v in model.keys.items() if k.startswith(("ssm.", "shortconv."))}
    if g.arch.startswith("lfm2"):
        keys["embedding_length"] = model.keys["embedding_length"]
    for name, data in keys.items():
        if isinstance(data, list):
            gguf.key(f"{g.arch}.{name}", ARRAY, (BOOL if data[0] is True else INT32, data))
        else:
            gguf.key(f"{g.arch}.{name}", UINT32, data)
    gguf.tensors = [tensor("token_embd.weight", (1024, 64), 0, 0)]
    return Planner(parse_header(Endless(gguf.build())))


def test_the_table_is_the_catalog() -> None:
    assert set(IDS) == set(TABLE) and len(catalog()) == len(TABLE)


@pytest.mark.parametrize("address", TABLE)
def test_a_header_with_the_geometry_of_the_model(address: str) -> None:
    g, model = TABLE[address], IDS[address]
    own, listed = made(g, model), model.planner()
    for planner in (own, listed):
        assert planner.shape.n_ctx_train == g.n_ctx
        assert planner.bytes_per_token(F16) == g.kib_per_token * KIB
        fixed = planner.cache_bytes(F16, 1 << 18) - (g.kib_per_token * KIB << 18)
        assert fixed - planner.shape.recurrent_bytes == g.window_mib * MIB
        assert [x.stores_kv and not x.slides for x in planner.shape.layers] == [
            x.stores_kv and not x.slides for x in own.shape.layers
        ]
    if g.arch not in ("gemma3", "gpt-oss", "gemma4"):
        stores = [x.stores_kv for x in listed.shape.layers]
        assert stores == [g.growing(i) for i in range(g.n_layer)]
    for label in ("f16", "q8_0", "q8_0/q4_0", "iq4_nl", "q8_0/f16"):
        for n_ctx in (512, 8192, 100_000):
            pair = parse_pair(label)
            assert own.cache_bytes(pair, n_ctx) == listed.cache_bytes(pair, n_ctx)


PAIRS = tuple(parse_pair(p) for p in ("f16", "q8_0", "q8_0/q4_0", "q5_1", "iq4_nl/f16"))


DISTINCT = {
    (g.arch, g.n_layer, g.n_head_kv, g.head_dim, g.window): address for address, g in TABLE.items()
}.values()
"""One model of each geometry: llama.cpp need not be asked twice."""


def maker(g: Geometry, model: CatalogModel) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a synthetic model with this geometry; weights and vocabulary are small."""
    sizes: dict[str, Any] = {
        "hollow": True,
        "n_layer": g.n_layer,
        "n_embd": 256,
        "n_head": 8,
        "n_head_kv": g.n_head_kv,
        "head_dim": g.head_dim,
        "n_ctx": g.n_ctx,
    }
    layers = range(g.n_layer)
    match g.arch:
        case "phi3":
            sizes |= {"n_embd": 8 * g.head_dim}
        case "gemma3" | "gpt-oss":
            sizes |= {"n_swa": g.window}
        case "gemma4":
            period = 5 if g.n_layer == 35 else 6
            sizes |= {"n_swa": g.window, "n_shared": g.shared, "period": period, "per_layer": 0}
            if g.n_head_kv == 8:
                sizes |= {"n_head_kv": 1, "n_head_kv_swa": 8}
        case "lfm2" | "lfm2moe":
            sizes |= {"n_embd": 512, "attention": [i for i in layers if g.growing(i)]}
            sizes |= {"n_expert": 4} if g.arch == "lfm2moe" else {}
        case "granitehybrid":
            sizes |= {"attention": [i for i in layers if g.growing(i)]}
        case "qwen35moe":
            sizes |= {"n_expert": 4}
    name = {"lfm2moe": "lfm2", "qwen35moe": "qwen35"}.get(g.arch, g.arch)
    return name, sizes


@pytest.mark.parametrize("address", DISTINCT)
def test_the_engine_allocates_the_cache_that_the_table_says(synthetic: SyntheticModels, address: str) -> None:
    """llama.cpp's own dry run of a file with the geometry, at two lengths and for five settings."""
    g = TABLE[address]
    name, sizes = maker(g, IDS[address])
    path = synthetic(name, **sizes)
    header = read_header(path)
    assert header.architecture == g.arch
    planner = exact_planner(path, header, settings=PAIRS)
    assert set(planner.lines) == {pair.label for pair in PAIRS} and planner.disagrees == ()
    assert planner.bytes_per_token(F16) == g.kib_per_token * KIB
    fixed = planner.cache_bytes(F16, 1 << 18) - (g.kib_per_token * KIB << 18)
    assert fixed - planner.shape.recurrent_bytes == g.window_mib * MIB


@pytest.mark.parametrize("address", TABLE)
def test_what_else_the_list_says(address: str) -> None:
    g, model = TABLE[address], IDS[address]
    assert (model.n_bytes, model.license, model.architecture) == (round(g.gb * 1e9), g.license, g.arch)
    assert model.tier in TIERS
    assert model.sentence.endswith(".") and len(model.sentence) <= 150
    assert refusal(model.header()) is None
    assert sum(t.n_bytes for t in model.header().tensors) == pytest.approx(model.n_bytes, rel=0.02)


def test_a_stretch_table_without_a_connection() -> None:
    """Of every model, on a computer of its tier with three quarters of the memory free."""
    pc = CpuFeatures(avx2=True)
    for model in catalog():
        planner = model.planner(cpu=pc, repack=model.tier < 32)
        rows = planner.stretch_table(n_ctx=8192, budget=model.tier * 3 << 28)
        assert max(row.max_ctx for row in rows) >= 8192, model.name
        plan = planner.plan(F16, 8192)
        assert plan.weights_mapped == pytest.approx(model.n_bytes, rel=0.02)


def test_the_list_goes_from_small_computers_to_large_ones() -> None:
    assert [m.tier for m in catalog()] == sorted(m.tier for m in catalog())
    assert {m.tier for m in catalog()} == set(TIERS)
