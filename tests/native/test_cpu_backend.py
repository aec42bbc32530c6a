"""The kernel inside ggml's CPU backend: the graph stays whole, and every context keeps its own window."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
from numpy.typing import NDArray

from quantize.cache_types import cache_type
from quantize.llama import Context, Model, send_log_to
from quantize.native import attention, register_types
from quantize.native.tail import Tail
from tests.synthetic import SyntheticModels

HEAD_DIM = 64


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What llama.cpp says."""
    return []


@pytest.fixture(scope="module")
def model(synthetic: SyntheticModels, lines: list[str]) -> Iterator[Model]:
    """A llama of two layers."""
    send_log_to(lambda _level, text: lines.append(text))
    assert register_types().ok
    assert attention.enable().ok
    with Model(synthetic("llama", head_dim=HEAD_DIM, n_head=4, n_head_kv=2)) as made:
        yield made
    attention.use("own")
    send_log_to(lambda _level, _text: None)


def test_it_has_joined() -> None:
    """With the version of ggml that Stretch is made for nothing keeps it out."""
    assert attention.enable().apart == ""


@pytest.mark.parametrize(("name", "window"), (("f16", 0), ("q8_0", 0), ("tq3", 0), ("tq3", 64)))
def test_no_node_cuts_the_graph(model: Model, lines: list[str], name: str, window: int) -> None:
    lines.clear()
    before = attention.counters()
    id = cache_type(name).variant(HEAD_DIM).id
    with (
        Tail(window) if window else nullcontext(),
        Context(model, n_ctx=256, type_k=id, type_v=id) as context,
    ):
        assert context.decode([5, 6, 7], 0) == 0
    splits = [int(n) for n in re.findall(r"nodes = .*, splits = (\d+)", "".join(lines))]
    assert splits and set(splits) == {1}
    after = attention.counters()
    assert after.attention - before.attention == 2
    assert (after.set_rows > before.set_rows) == (window > 0)


def decode_all(model: Model, window: int, results: dict[int, NDArray[np.float32]]) -> None:
    """The logits after a text that is longer than the window."""
    tokens = np.random.default_rng(1).integers(5, model.n_vocab - 5, 150).tolist()
    id = cache_type("tq2").variant(HEAD_DIM).id
    # a window is for the contexts that are made while it is open
    with LOCK, Tail(window) if window else nullcontext():
        context = Context(model, n_ctx=256, type_k=id, type_v=id, n_threads=2)
    with context:
        assert context.decode(tokens[:100], 0) == 0
        for i in range(100, 150):
            assert context.decode_one(tokens[i], i) == 0
        results[window] = context.logits().copy()


LOCK = threading.Lock()


def test_contexts_that_compute_at_once_keep_their_windows(model: Model) -> None:
    """The context that computes is known by the thread that calls llama.cpp."""
    windows = (0, 32, 96)
    alone: dict[int, NDArray[np.float32]] = {}
    for window in windows:
        decode_all(model, window, alone)
    assert not np.allclose(alone[0], alone[32], atol=1e-4)
    assert not np.allclose(alone[32], alone[96], atol=1e-4)
    together: dict[int, NDArray[np.float32]] = {}
    threads = [threading.Thread(target=decode_all, args=(model, window, together)) for window in windows]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for window in windows:
        np.testing.assert_allclose(together[window], alone[window], rtol=1e-4, atol=1e-4)
