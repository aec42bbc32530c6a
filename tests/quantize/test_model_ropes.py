"""How the layers of a model turn: what the engine's graph says, and what the metadata say without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import quantize.model_ropes
from models.geometry import read_shape
from models.header import read_header
from quantize.geometry import Geometry, LayerHeads
from quantize.llama import Context, Model
from quantize.model_ropes import ropes_of
from quantize.native import attention, rope_node
from quantize.rope import NO_ROPE, UNKNOWN_ROPE, Ropes
from quantize.rope_parameters import IMROPE, MROPE, NEOX, RopeParameters
from tests.quantize.conftest import Engine, save
from tests.synthetic import SyntheticModels

F32 = 0
ROPED = ["llama", "qwen2", "qwen2vl", "qwen3", "phi3", "bitnet", "gemma2", "gemma3", "gemma3n", "gemma4"]
ROPED += ["gpt-oss", "cohere2", "olmo2", "smollm3", "mistral3"]

needs_kernel = pytest.mark.skipif(not attention.enable().ok, reason="there is no native library")


def from_metadata(model: Model, geometry: Geometry) -> Ropes:
    found = quantize.model_ropes._from_metadata(model, geometry)
    return tuple(tuple(layer.rope() for layer in part) for part in found)


def k_of(e: Engine, positions: list[int], token: int) -> list[list[np.ndarray[Any, Any]]]:
    """K of layers of ``token`` at these positions, each in a context of its own: shape (tokens, heads, dim)
    per part and layer. Alone in its context a token sees nothing but itself, so that only its position tells
    one from another."""
    found: list[list[list[np.ndarray[Any, Any]]]] = []
    for at in positions:
        with e.context(F32, F32) as context:
            assert context.decode([token], at, logits="none") == 0
            state = save(context)
        rows = [[state.rows(k).view(np.float32)[0].copy() for k in part.k] for part in state.parts]
        found.append(rows)
    return [
        [
            np.stack([one[p][i] for one in found]).reshape(len(positions), heads.n_head_kv, -1)
            for i, heads in enumerate(part)
        ]
        for p, part in enumerate(e.geometry.parts)
    ]


def assert_same_at_every_position(e: Engine, ropes: Ropes) -> None:
    """Un-roped K of a token does not know where the token stood."""
    at = [0, 1, 77, 300]
    for part, layers in zip(k_of(e, at, 20), ropes, strict=True):
        for k, rope in zip(part, layers, strict=True):
            assert rope.known
            plain = rope.without_positions(k.swapaxes(0, 1), np.array(at, np.int32))
            np.testing.assert_allclose(plain, np.broadcast_to(plain[:, :1], plain.shape), atol=2e-3)


@needs_kernel
@pytest.mark.parametrize("name", ROPED)
def test_k_without_its_position_is_the_same_everywhere(engine: Callable[..., Engine], name: str) -> None:
    e = engine(name)
    ropes = ropes_of(e.model, e.geometry)
    assert [len(part) for part in ropes] == [len(part) for part in e.geometry.parts]
    assert_same_at_every_position(e, ropes)
    if name == "qwen2vl":  # llama.cpp gives out no arrays of the metadata
        ropes = tuple((UNKNOWN_ROPE,) * len(part) for part in ropes)
    assert from_metadata(e.model, e.geometry) == ropes


@needs_kernel
@pytest.mark.parametrize("kernel", ["own", "stock"])
def test_layers_differ_where_the_architecture_says_so(engine: Callable[..., Engine], kernel: Any) -> None:
    """Gemma 3 has a base of its own in sliding layers; every fourth layer of SmolLM3 knows no positions.
    It is found while the kernel is switched off, too."""
    attention.use(kernel)
    try:
        e = engine("gemma3", n_layer=7)
        e_ropes = quantize.model_ropes._from_graph(e.model, e.geometry)
        assert e_ropes is not None
        assert [{p.freq_base for p in part} for part in e_ropes] == [{1000000.0}, {10000.0}]
        e = engine("smollm3", n_layer=5)
        (layers,) = ropes_of(e.model, e.geometry)
        assert [rope.used for rope in layers] == [True, True, True, False, True]
        assert layers[3] == NO_ROPE
    finally:
        attention.use("own")


SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    "yarn": {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 1024,
    },
    "yarn with a factor": {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 8.0,
        "rope.scaling.original_context_length": 512,
        "rope.scaling.attn_factor": 1.25,
    },
    "none": {"rope.scaling.type": "none", "rope.scaling.factor": 4.0},
    "partial": {"rope.dimension_count": 32},
}


CASES = [(name, scaling) for name in ("llama", "phi3") for scaling in SCALINGS]
CASES.remove(("llama", "partial"))  # llama.cpp refuses it: all values of a head of this architecture turn


@needs_kernel
@pytest.mark.parametrize(("name", "scaling"), CASES)
def test_scalings(engine: Callable[..., Engine], name: str, scaling: str) -> None:
    e = engine(name, keys=SCALINGS[scaling])
    ropes = ropes_of(e.model, e.geometry)
    assert_same_at_every_position(e, ropes)
    assert from_metadata(e.model, e.geometry) == ropes
    (first, *_) = ropes[0]
    assert (first.magnitude > 1) == scaling.startswith("yarn")
    assert first.theta[0] == (0.25 if scaling == "linear" else 1)


@needs_kernel
def test_frequency_factors(engine: Callable[..., Engine]) -> None:
    """As Llama 3 has them, and as Phi 3 has them for short and for long contexts."""
    factors = (1.0,) * 16 + tuple(np.linspace(1.5, 8, 16).tolist())
    e = engine("llama", vectors={"rope_freqs.weight": factors})
    ropes = ropes_of(e.model, e.geometry)
    assert_same_at_every_position(e, ropes)
    assert from_metadata(e.model, e.geometry) == ropes
    plain = RopeParameters(n_dims=64).rope().theta
    np.testing.assert_allclose(ropes[0][0].theta, np.array(plain) / np.float32(factors), rtol=1e-6)

    short, long = (tuple(np.linspace(1, most, 32).tolist()) for most in (2, 20))
    e = engine(
        "phi3",
        vectors={"rope_factors_short.weight": short, "rope_factors_long.weight": long},
        keys={"rope.scaling.original_context_length": 1024},
    )
    ropes = ropes_of(e.model, e.geometry, 1024)
    assert_same_at_every_position(e, ropes)
    assert ropes == ropes_of(e.model, e.geometry) == from_metadata(e.model, e.geometry)
    far = ropes_of(e.model, e.geometry, 2048)
    with rope_node.recording() as recorded, Context(e.model, n_ctx=2048, n_threads=1):
        assert recorded is not None
        shown = recorded(0)
    assert shown is not None and shown.rope() == far[0][0] != ropes[0][0]


@needs_kernel
def test_modes_of_more_than_one_position(engine: Callable[..., Engine]) -> None:
    found = quantize.model_ropes._from_graph(engine("qwen2vl").model, engine("qwen2vl").geometry)
    assert found is not None and found[0][0].mode == MROPE and found[0][0].sections == (8, 12, 12, 0)
    e = engine("qwen35")
    shape = read_shape(read_header(e.model.path))
    found = quantize.model_ropes._from_graph(e.model, shape.geometry())
    assert found is not None and found[0] and {layer.mode for layer in found[0]} == {IMROPE}
    assert shape.geometry().number(0, 0) == shape.layer_numbers()[0][0] > 0


@needs_kernel
def test_what_is_not_understood_is_said_to_be(engine: Callable[..., Engine]) -> None:
    """Latent attention keeps one row that is turned in a part of it."""
    e = engine("deepseek2")
    assert set(ropes_of(e.model, e.geometry)[0]) == {UNKNOWN_ROPE}


def test_a_model_without_attention_has_none(synthetic: SyntheticModels) -> None:
    with Model(synthetic("mamba")) as model:
        assert ropes_of(model, Geometry(((),), LayerHeads(0, 0, 0))) == ((),)


@needs_kernel
def test_nothing_is_recorded_unless_somebody_asks(engine: Callable[..., Engine]) -> None:
    e = engine("llama")
    with rope_node.recording() as recorded:
        assert recorded is not None
        assert recorded(0) is None
    with e.context(F32, F32):
        assert recorded(0) is None
    with rope_node.recording(), e.context(8, 8):  # behind a Hadamard rotation
        found = recorded(1)
    assert found == RopeParameters(n_dims=64, mode=0, n_ctx_orig=4096)
    assert recorded(5) is None and recorded(-1) is None and recorded(1 << 20) is None
    assert found.mode != NEOX


def test_without_the_library_the_metadata_are_read(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    e = engine("gemma3")
    off = attention.AttentionStatus(False, "off", "")
    monkeypatch.setattr(attention, "enable", lambda: off)
    monkeypatch.setattr(quantize.model_ropes, "_found", {})
    assert ropes_of(e.model, e.geometry) == from_metadata(e.model, e.geometry)
