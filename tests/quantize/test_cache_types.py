"""The table of cache types against the library and against what llama.cpp accepts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest

from quantize import ggml
from quantize.cache_types import (
    CACHE_TYPES,
    PRESETS,
    CachePair,
    CacheType,
    cache_type,
    nearest_stock,
    parse_pair,
)
from quantize.errors import CacheTypeError, EngineError
from tests.quantize.conftest import Engine

STOCK = [t for t in CACHE_TYPES.values() if not t.native]


def test_the_table_is_the_librarys() -> None:
    ggml.check_table(STOCK)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(CACHE_TYPES["q4_0"], variants=(replace(CACHE_TYPES["q4_0"].variants[0], type_size=20),)),
        replace(CACHE_TYPES["q4_0"], variants=(replace(CACHE_TYPES["q4_0"].variants[0], block_size=64),)),
        replace(CACHE_TYPES["q4_0"], variants=CACHE_TYPES["iq4_nl"].variants),
        replace(CACHE_TYPES["f16"], quantized=True),
    ],
)
def test_a_table_that_differs_is_found_out(wrong: CacheType) -> None:
    with pytest.raises(CacheTypeError, match="differently"):
        ggml.check_table([wrong])


def test_it_loads_no_native_library() -> None:
    """The first screen and the planner read the table before anything else is loaded."""
    code = (
        "import sys, quantize.cache_types, quantize.geometry;"
        "print([m for m in ('numpy', 'llama_cpp', 'ctypes') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_names() -> None:
    assert cache_type(" Q8_0 ").name == "q8_0"
    assert parse_pair("q8_0") == CachePair(cache_type("q8_0"), cache_type("q8_0"))
    assert parse_pair("q8_0/q4_0").label == "q8_0/q4_0"
    assert parse_pair("q8_0 / q4_0").v.name == "q4_0"
    for text in ("", "q9", "q8_0/", "f16/f16/f16", "[red]f16"):
        with pytest.raises(CacheTypeError):
            parse_pair(text)
    assert [parse_pair(p.label) for p in PRESETS] == list(PRESETS)


@pytest.mark.parametrize("head_dim", [64, 80, 96, 128, 192, 256])
@pytest.mark.parametrize("name", [t.name for t in STOCK])
def test_llama_cpp_agrees_on_every_head_size(engine: Callable[..., Engine], head_dim: int, name: str) -> None:
    """``obstacle`` refuses what llama.cpp refuses and nothing else, for K and for V."""
    e = engine(head_dim=head_dim, n_head=1, n_head_kv=1, n_layer=1, n_embd=32, n_ff=32)
    wanted, f16 = cache_type(name), cache_type("f16")
    for pair in (CachePair(wanted, f16), CachePair(f16, wanted)):
        obstacle = pair.obstacle([head_dim], [head_dim])
        ids = [t.variants[0].id for t in (pair.k, pair.v)]
        if not obstacle:
            assert pair.type_ids([head_dim], [head_dim]) == tuple(ids)
            e.context(*ids, n_ctx=256).close()
        else:
            assert name in obstacle and str(head_dim) in obstacle
            with pytest.raises(EngineError):
                e.context(*ids, n_ctx=256)


def test_quantized_v_needs_flash_attention() -> None:
    for name in CACHE_TYPES:
        pair = CachePair(cache_type("f16"), cache_type(name))
        obstacle = pair.obstacle([128], [128], flash_attention=False)
        assert bool(obstacle) == cache_type(name).quantized
        assert not CachePair(cache_type(name), cache_type("f16")).obstacle(
            [128], [128], flash_attention=False
        )


def test_latent_attention_takes_one_type() -> None:
    assert parse_pair("q8_0/q4_0").obstacle([576], [512], mla=True)
    assert not parse_pair("q8_0").obstacle([576], [512], mla=True)


def test_unequal_heads_need_a_block_that_divides_all() -> None:
    assert parse_pair("q2_0").obstacle([128, 96], [128])
    assert not parse_pair("q4_0").obstacle([128, 96], [128])


def test_nearest_stock_type() -> None:
    def nearest(name: str, head_dim: int) -> str:
        return nearest_stock(cache_type(name), head_dim).name

    assert nearest("nvfp4", 96) == "q4_0"
    assert nearest("q2_0", 96) == "mxfp4"
    assert nearest("q1_0", 64) == "q2_0"
    assert nearest("q4_0", 80) == "f16"
    for t in STOCK:
        assert nearest(t.name, 128) in {x.name for x in STOCK if _bits(x) == _bits(t)}
    for size in (2, 33, 40, 80, 96, 112, 128):
        for t in CACHE_TYPES.values():
            found = nearest_stock(t, size)
            assert not found.native
            assert size % found.variants[0].block_size == 0


def _bits(t: CacheType) -> Fraction:
    v = t.variants[0]
    return Fraction(v.type_size * 8, v.block_size)
