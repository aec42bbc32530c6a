"""Conversations with real engines for the tests of saved states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.geometry import read_shape
from models.header import read_header
from quantize.cache_types import CACHE_TYPES
from quantize.geometry import Geometry
from quantize.llama import Context, Model, send_log_to
from quantize.state import SavedState, read_state
from quantize.transcode import transcode, transcoded_size
from tests.synthetic import SyntheticModels

send_log_to(lambda _level, _text: None)


@dataclass
class Engine:
    """A loaded model with what the tests ask of it."""

    model: Model
    geometry: Geometry
    states: dict[tuple[int, int, int], SavedState] = field(default_factory=dict)

    def tokens(self, n: int) -> list[int]:
        """The first ``n`` of a fixed random text."""
        return [int(t) for t in np.random.default_rng(7).integers(3, self.model.n_vocab, n)]

    def context(self, type_k: int, type_v: int, n_ctx: int = 512, n_outputs: int = 1) -> Context:
        """A fresh context."""
        return Context(
            self.model,
            n_ctx=n_ctx,
            type_k=type_k,
            type_v=type_v,
            n_threads=1,
            n_ubatch=64,
            n_outputs_max=n_outputs,
        )

    def state(self, type_k: int, type_v: int, n_tokens: int) -> SavedState:
        """The state after reading ``n_tokens`` with these types."""
        key = (type_k, type_v, n_tokens)
        if key not in self.states:
            with self.context(type_k, type_v) as context:
                assert context.decode(self.tokens(n_tokens), 0, logits="none") == 0
                self.states[key] = save(context)
        return self.states[key]

    def transcoded(self, state: SavedState, type_k: int, type_v: int) -> SavedState:
        """``state`` in other types."""
        out = np.empty(transcoded_size(state, self.geometry, type_k, type_v), np.uint8)
        assert transcode(state, self.geometry, type_k, type_v, out)
        return read_state(out)


def save(context: Context) -> SavedState:
    """The saved state of a context's only sequence."""
    data = np.empty(context.state_size(), np.uint8)
    assert context.save_state(data) == data.size
    return read_state(data)


@pytest.fixture(scope="session")
def engine(synthetic: SyntheticModels) -> Iterator[Callable[..., Engine]]:
    """``engine("llama", head_dim=128)``: the synthetic model of that kind, loaded once."""
    loaded: dict[Path, Engine] = {}

    def load(name: str = "llama", **parameters: object) -> Engine:
        path = synthetic(name, **parameters)
        if path not in loaded:
            loaded[path] = Engine(Model(path), read_shape(read_header(path)).geometry())
        return loaded[path]

    yield load
    for one in loaded.values():
        one.model.close()


def type_ids(head_dim: int, names: Sequence[str] = tuple(CACHE_TYPES)) -> dict[str, int]:
    """ggml ids of the stock types that suit heads of this size."""
    found = {}
    for name in names:
        variants = [v for v in CACHE_TYPES[name].variants if head_dim % v.block_size == 0]
        if variants and not CACHE_TYPES[name].native:
            found[name] = variants[0].id
    return found


def equal(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    """Whether two blocks of bytes are the same."""
    return a.shape == b.shape and bool((a == b).all())


def meaningful(rows: NDArray[np.uint8], type_id: int) -> NDArray[np.uint8]:
    """``rows`` without the bytes that mean nothing.

    ggml leaves the levels of an iq4_nl block of zeros as they were on its stack; the scale, the
    first two bytes of 18, is zero then.
    """
    if type_id != CACHE_TYPES["iq4_nl"].variants[0].id:
        return rows
    blocks = rows.reshape(-1, 18).copy()
    blocks[(blocks[:, 0] == 0) & (blocks[:, 1] & 0x7F == 0), 2:] = 0
    return blocks.reshape(rows.shape)
