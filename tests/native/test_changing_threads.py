"""The number of threads may change between any two batches: results differ by rounding, never by more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantize.cache_types import cache_type
from quantize.llama import Context, Model, send_log_to
from quantize.native import attention, register_types
from quantize.native.attention_mass import Watched
from quantize.native.tail import Tail
from quantize.prune.observe import watching_context
from tests.synthetic import SyntheticModels

HEAD_DIM = 64
BATCHES = (200, 1, 1, 130, 64, 1, 1, 1, 300, 1, 1)
"""Prefills and single tokens; the cache ends with more cells than one chunk of the attention has."""

Numbers = list[int]
NUMBERS = st.lists(st.integers(1, 5), min_size=len(BATCHES), max_size=len(BATCHES))


@pytest.fixture(scope="module")
def model(synthetic: SyntheticModels) -> Iterator[Model]:
    """A llama of two layers."""
    send_log_to(lambda _level, _text: None)
    assert register_types().ok
    assert attention.enable().ok
    with Model(synthetic("llama", head_dim=HEAD_DIM, n_head=4, n_head_kv=2)) as made:
        yield made
    attention.use("own")


def decode_all(context: Context, numbers: Numbers) -> NDArray[np.float32]:
    """The logits after each batch, which ``numbers`` threads compute."""
    tokens = np.random.default_rng(1).integers(5, context.model.n_vocab - 5, sum(BATCHES)).tolist()
    logits, at = [], 0
    for n, n_threads in zip(BATCHES, numbers, strict=True):
        context.set_threads(n_threads)
        assert context.n_threads == n_threads
        assert context.decode(tokens[at : at + n], at) == 0
        logits.append(context.logits().copy())
        at += n
    return np.array(logits)


def run(
    model: Model, kernel: attention.Kernel, name: str, window: int, numbers: Numbers
) -> NDArray[np.float32]:
    attention.use(kernel)
    id = cache_type(name).variant(HEAD_DIM).id
    with (
        Tail(window) if window else nullcontext(),
        Context(model, n_ctx=768, type_k=id, type_v=id, n_threads=numbers[0]) as context,
    ):
        return decode_all(context, numbers)


@settings(max_examples=6, deadline=None)
@given(numbers=NUMBERS)
@pytest.mark.parametrize(
    ("kernel", "name", "window"),
    (("stock", "f16", 0), ("own", "f16", 0), ("own", "q8_0", 0), ("own", "tq3", 0), ("own", "tq3", 96)),
)
def test_logits_are_the_same_but_for_rounding(
    model: Model, kernel: attention.Kernel, name: str, window: int, numbers: Numbers
) -> None:
    one = run(model, kernel, name, window, [1] * len(BATCHES))
    changing = run(model, kernel, name, window, numbers)
    assert np.sqrt(np.mean((one - changing) ** 2, -1) / np.mean(one**2, -1)).max() < 0.01
    assert (run(model, kernel, name, window, [1] * len(BATCHES)) == one).all()


@settings(max_examples=6, deadline=None)
@given(numbers=NUMBERS)
def test_the_attention_that_is_watched_is_the_same(model: Model, numbers: Numbers) -> None:
    def watch(numbers: Numbers) -> list[NDArray[np.float32]]:
        with watching_context(model, 768, 1, 1, numbers[0]) as (context, watched):
            assert isinstance(watched, Watched) and watched.start(sum(BATCHES), 4)
            decode_all(context, numbers)
            watched.check()
            layers = [watched.layer(i) for i in range(2)]
            return [x for seen in layers if seen is not None for x in (seen.most, seen.total)]

    one, changing = watch([1] * len(BATCHES)), watch(numbers)
    assert len(one) == len(changing) == 4
    for a, b in zip(one, changing, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.02, atol=1e-4)
