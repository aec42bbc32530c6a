"""The estimate from the file, held against what was measured on real models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.loss_estimate import NOISE, UNREAD_BIAS, KFacts, estimate, k_facts
from models.splits import read_model
from quantize import ggml
from quantize.cache_types import CACHE_TYPES, parse_cache
from quantize.lab.loss import Loss, Verdict
from tests.synthetic import SyntheticModels

GAINS = {"SmolLM2-135M": 1.0, "Gemma-3-270m": 4.15, "Qwen2.5-Coder-0.5B": 102.8, "Qwen2.5-Coder-1.5B": 220.8}
"""What ``k_facts`` finds in the files of four real models (Q4_1 and Q4_K_M)."""

FLOORS = {
    "SmolLM2-135M": 0.0037,
    "Gemma-3-270m": 0.0066,
    "Qwen2.5-Coder-0.5B": 0.0016,
    "Qwen2.5-Coder-1.5B": 0.0048,
}

MEASURED = {
    "SmolLM2-135M": {
        "q8_0": 0.0039,
        "q8_0/tq3": 0.0176,
        "q8_0/tq3+256": 0.0046,
        "tq4": 0.0309,
        "tq4+256": 0.0047,
        "tq3": 0.112,
        "tq3+256": 0.0088,
        "tq2": 0.650,
        "tq2+256": 0.026,
        "q4_0": 0.0510,
        "q5_0": 0.0160,
    },
    "Gemma-3-270m": {"q8_0": 0.0072, "tq4": 0.0645, "tq3": 0.449, "tq2": 1.41, "q4_0": 0.0927, "q5_0": 0.032},
    "Qwen2.5-Coder-0.5B": {
        "q8_0": 0.0074,
        "q8_0/tq3": 0.0167,
        "q5_0": 0.372,
        "q4_0": 2.61,
        "tq4": 2.20,
        "tq3": 3.00,
        "tq4+256": 0.709,
        "tq3+256": 2.01,
        "tq2+256": 2.19,
    },
    "Qwen2.5-Coder-1.5B": {"q8_0": 0.0066, "tq4+256": 5.19, "tq3+256": 0.293, "q4_0": 4.31},
}
"""KLD of everything compressed as written (docs/measuring.md)."""


def guess(gain: float, label: str, *, centred: bool = False) -> Loss:
    pair, tail = parse_cache(label)
    return estimate(KFacts(gain=gain), pair, tail or 0, centred=centred)


@pytest.mark.parametrize(
    ("model", "label"), [(model, label) for model, rows in MEASURED.items() for label in rows]
)
def test_it_errs_on_the_careful_side(model: str, label: str) -> None:
    """No verdict is better than the one of the measurement."""
    measured = Loss(MEASURED[model][label], 1.0, FLOORS[model], measured=True)
    assert guess(GAINS[model], label).verdict >= measured.verdict


@pytest.mark.parametrize("label", ["q8_0", "q8_0/tq3+256"])
@pytest.mark.parametrize("model", MEASURED)
def test_it_leaves_a_setting_to_take(model: str, label: str) -> None:
    """Also where K is hard: eight bits for K are never said to break a model that they do not break."""
    assert guess(GAINS[model], label).verdict <= Verdict.VISIBLE


def test_k_without_its_constant_is_no_harder_than_that_of_others(synthetic: SyntheticModels) -> None:
    facts = k_facts(read_model(path := synthetic("huge_bias_qwen2")), path)
    assert facts.gain > 20
    pair, _ = parse_cache("tq3")
    assert estimate(facts, pair).verdict == Verdict.BREAKS
    assert estimate(facts, pair, centred=True) == estimate(KFacts(floor=facts.floor), pair)


def test_what_the_files_say(synthetic: SyntheticModels) -> None:
    for name, most in (("llama", 1.0), ("qwen2", 1.1), ("phi3", 1.0), ("qwen3", 3.0)):
        path = synthetic(name)
        assert 1.0 <= k_facts(read_model(path), path).gain <= most, name


def test_a_header_alone_is_judged_carefully(synthetic: SyntheticModels, tmp_path: Path) -> None:
    path = synthetic("huge_bias_qwen2")
    header = read_model(path)
    assert k_facts(header).gain == UNREAD_BIAS
    short = tmp_path / path.name
    short.write_bytes(path.read_bytes()[: header.data_offset + 64])
    assert k_facts(header, short).gain >= UNREAD_BIAS  # the file ends too soon


def test_every_type_has_its_noise() -> None:
    assert NOISE.keys() == CACHE_TYPES.keys()


@pytest.mark.parametrize("name", [t.name for t in CACHE_TYPES.values() if t.quantized])
def test_the_noise_of_every_type_is_that_of_the_library(name: str) -> None:
    x = np.random.default_rng(1).standard_normal(1 << 16).astype(np.float32)
    fmt = ggml.row_format(CACHE_TYPES[name].variants[0].id)
    packed, back = np.zeros(fmt.row_size(x.size), np.uint8), np.empty_like(x)
    ggml.quantize(fmt, x, packed)
    ggml.dequantize(fmt, packed, back)
    assert NOISE[name] == pytest.approx(float(np.square(back - x).mean()), rel=0.1)
