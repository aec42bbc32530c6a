"""tq4, tq3 and tq2 as the cache of real contexts: read, save, restore, shift, switch."""

from __future__ import annotations

from collections.abc import Callable

import llama_cpp.llama_cpp as L
import numpy as np
import pytest
from numpy.typing import NDArray

from quantize.cache_types import cache_type, parse_pair
from quantize.llama import Context
from quantize.native import register_types
from quantize.state import read_state
from tests.quantize.conftest import Engine, save

STATUS = register_types()
pytestmark = pytest.mark.skipif(not STATUS.ok, reason=STATUS.reason)

NAMES = ("tq4", "tq3", "tq2")
GEOMETRIES = {
    "64": {"head_dim": 64, "n_head": 4, "n_head_kv": 1},
    "128": {"head_dim": 128, "n_head": 4, "n_head_kv": 2},
    "256": {"head_dim": 256, "n_head": 2, "n_head_kv": 1},
}
N = 96
"""Tokens of a text."""


def ids(setting: str, head_dim: int) -> tuple[int, int]:
    return parse_pair(setting).type_ids([head_dim], [head_dim])


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    x = logits.astype(np.float64) - logits.max()
    return x - np.log(np.exp(x).sum())


def divergence(exact: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """KLD of one position."""
    p, q = log_softmax(exact), log_softmax(other)
    return float((np.exp(p) * (p - q)).sum())


def read(context: Context, tokens: list[int], start: int = 0) -> NDArray[np.float32]:
    assert context.decode(tokens, start) == 0
    return context.logits().copy()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_more_bits_are_closer_to_f16(engine: Callable[..., Engine], geometry: str) -> None:
    e = engine(**GEOMETRIES[geometry])
    text = e.tokens(N)

    def all_logits(setting: str) -> list[NDArray[np.float32]]:
        with e.context(*ids(setting, int(geometry)), n_outputs=N) as context:
            assert context.decode(text, 0, logits="all") == 0
            return [context.logits(i).copy() for i in range(N)]

    exact = all_logits("f16")

    def mean(setting: str) -> float:
        return float(np.mean([divergence(a, b) for a, b in zip(exact, all_logits(setting), strict=True)]))

    loss = {name: mean(name) for name in (*NAMES, "q2_0", "tq4/tq2", "q8_0/tq3")}
    assert 0 < loss["tq4"] < 0.6 * loss["tq3"] < 0.36 * loss["tq2"]
    assert loss["tq2"] < 0.5 * loss["q2_0"]
    assert loss["tq4"] < loss["tq4/tq2"] < loss["tq2"]
    assert loss["q8_0/tq3"] < loss["tq3"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_save_and_restore(engine: Callable[..., Engine], geometry: str, name: str) -> None:
    """A restored conversation goes on exactly as the one that was saved, whatever its length."""
    e = engine(**GEOMETRIES[geometry])
    types = ids(name, int(geometry))
    text = e.tokens(N)
    with e.context(*types) as context:
        read(context, text[:-1])
        saved = np.empty(context.state_size(), np.uint8)
        context.save_state(saved)
        want = read(context, text[-1:], N - 1)
    row = read_state(saved).parts[0].k[0]
    heads = GEOMETRIES[geometry]["n_head_kv"] * int(geometry)
    assert (row.type_id, row.row_size) == (types[0], cache_type(name).variant(int(geometry)).row_size(heads))
    with e.context(*types, n_ctx=1024) as context:
        assert context.load_state(saved)
        np.testing.assert_array_equal(read(context, text[-1:], N - 1), want)


@pytest.mark.parametrize("name", NAMES)
def test_shift(engine: Callable[..., Engine], name: str) -> None:
    """After the oldest tokens are dropped and the rest moves up, the cache still says the same."""
    e = engine(**GEOMETRIES["128"])
    text = e.tokens(N)

    def shifted(setting: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with e.context(*ids(setting, 128)) as context:
            before = read(context, text)
            assert L.llama_memory_can_shift(context.memory)
            assert context.remove(16, 48)
            L.llama_memory_seq_add(context.memory, 0, 48, -1, -32)
            return before, read(context, text[:8], N - 32)

    exact_before, exact = shifted("f16")
    before, after = shifted(name)
    loss_before, loss_after = divergence(exact_before, before), divergence(exact, after)
    assert loss_after < 6 * loss_before + 1e-3
    assert divergence(exact, before) > 3 * loss_after  # the shift did change what follows


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_switch_there_and_back(engine: Callable[..., Engine], geometry: str) -> None:
    """From any type to tq and from tq to any type; the loss is that of the coarsest on the way."""
    e = engine(**GEOMETRIES[geometry])
    dim = int(geometry)
    text = e.tokens(N)
    known, new = text[:64], text[64:]

    def go_on(context: Context) -> list[NDArray[np.float32]]:
        assert context.decode(new, len(known), logits="all") == 0
        return [context.logits(i).copy() for i in range(len(new))]

    with e.context(*ids("f16", dim), n_outputs=N) as context:
        read(context, known)
        state = save(context)
        exact = go_on(context)

    def loss(logits: list[NDArray[np.float32]]) -> float:
        return float(np.mean([divergence(a, b) for a, b in zip(exact, logits, strict=True)]))

    for name in NAMES:
        with e.context(*ids(name, dim), n_outputs=N) as context:
            read(context, known)
            native = loss(go_on(context))
        for path in ((name,), ("q8_0", name), (name, "f16"), (name, "q8_0/f16", "f16", name)):
            now = state
            for setting in path:
                now = e.transcoded(now, *ids(setting, dim))
            with e.context(*ids(path[-1], dim), n_outputs=N) as context:
                assert context.load_state(now.data)
                assert loss(go_on(context)) < 2 * native, path


@pytest.mark.parametrize("head_dim", [40, 80, 96, 112])
@pytest.mark.parametrize("name", NAMES)
def test_other_head_sizes_are_refused(head_dim: int, name: str) -> None:
    obstacle = parse_pair(f"{name}/f16").obstacle([head_dim], [head_dim])
    assert f"blocks of 128 or 64 values and this model's heads have {head_dim}" in obstacle
    assert "nearest type that fits is" in obstacle
    assert parse_pair(f"f16/{name}").obstacle([128], [head_dim])
    for fits in (64, 128, 256):
        assert not parse_pair(name).obstacle([fits], [fits])
