"""Real contexts of every synthetic model, made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from quantize.cache_types import CachePair, parse_pair
from tests.models.real_context import Made, make_contexts
from tests.synthetic import SyntheticModels

PAIRS = tuple(
    parse_pair(p) for p in ("f16", "q8_0", "q8_0/q4_0", "q4_0", "bf16/q5_1", "iq4_nl/f16", "f32/nvfp4")
)
LENGTHS = (300, 2048, 16384)
"""At 16,384 cells one byte per cell is more than llama.cpp's log rounds off."""

FULL = parse_pair("q8_0"), 8192
"""The context that is filled with more than one batch, in a process that has made no other."""


@dataclass(frozen=True)
class Measured:
    """What a child process found out about one model."""

    path: Path
    full: Made
    """Of the setting ``FULL``."""
    contexts: dict[tuple[CachePair, int], Made]


def settings(pair: CachePair, n_ctx: int, **more: int) -> dict[str, int]:
    """Arguments of a context."""
    return {"n_ctx": n_ctx, "type_k": pair.k.variants[0].id, "type_v": pair.v.variants[0].id, **more}


@pytest.fixture(scope="session")
def measured(synthetic: SyntheticModels) -> Callable[[str], Measured]:
    """Gives the contexts of a synthetic model by its name."""
    known: dict[str, Measured] = {}

    def measure(name: str) -> Measured:
        if name not in known:
            path = synthetic(name)
            cases = [(pair, n_ctx) for pair in PAIRS for n_ctx in LENGTHS]
            # Each pair of types shows once that the model computes with it.
            asked = [settings(pair, n_ctx, fill=8 if n_ctx == LENGTHS[0] else 0) for pair, n_ctx in cases]
            full, *rest = make_contexts(path, [settings(*FULL, n_batch=512, fill=600), *asked])
            known[name] = Measured(path, full, dict(zip(cases, rest, strict=True)))
        return known[name]

    return measure
