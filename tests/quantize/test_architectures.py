"""Saved states of many architectures: which can change type, and that their rows come out right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from quantize.errors import StateError
from quantize.state import CELL_SIZE
from quantize.transcode import state_size, transcoded_size
from tests.quantize.conftest import Engine, equal, save, type_ids
from tests.quantize.test_transcode import assert_rewritten

F32, F16, Q8_0, Q4_0 = 0, 1, 8, 2

PLAIN = ["llama", "mistral", "qwen2", "qwen2vl", "qwen3", "phi3", "bitnet"]
SLIDING = ["gemma2", "gemma3", "gemma3n", "gemma4", "gpt-oss", "cohere2", "olmo2"]
RECURRENT = {"mamba": "is recurrent", "granitehybrid": "partly recurrent", "falcon-h1": "partly recurrent"}
RECURRENT |= {"lfm2": "partly recurrent", "qwen35": "partly recurrent"}
WINDOW = 32


def load(engine: Callable[..., Engine], name: str) -> Engine:
    return engine(name, n_swa=WINDOW) if name in SLIDING else engine(name)


@pytest.mark.parametrize("name", PLAIN + SLIDING)
def test_states_change_type(engine: Callable[..., Engine], name: str) -> None:
    """Both caches of a sliding model; the bytes are ggml's own, and llama.cpp takes them."""
    e = load(engine, name)
    source = e.state(F16, F16, 100)
    assert source.obstacle == ""
    assert len(source.parts) == (2 if name in SLIDING else 1)
    assert source.parts[0].cell_size == (24 if name == "qwen2vl" else 12)
    if name in SLIDING:
        assert source.parts[1].n_cells < source.parts[0].n_cells == 100
        assert sorted(source.positions(1).tolist())[-1] == 99
    for type_k, type_v in ((Q8_0, Q4_0), (Q4_0, F32), (F16, Q8_0)):
        made = e.transcoded(source, type_k, type_v)
        assert_rewritten(e, source, made, type_k, type_v)
        if source.parts[0].cell_size == CELL_SIZE:
            assert made.data.size == state_size(e.geometry, [p.n_cells for p in made.parts], type_k, type_v)
        with e.context(type_k, type_v) as context:
            assert context.load_state(made.data)
            assert context.last_position() == 99
            assert equal(save(context).data, made.data)
        again = e.transcoded(made, Q8_0, Q8_0)
        assert_rewritten(e, made, again, Q8_0, Q8_0)


@pytest.mark.parametrize("name", PLAIN + SLIDING)
def test_the_first_rows_are_those_of_a_real_context(engine: Callable[..., Engine], name: str) -> None:
    """Layer 0 reads the embeddings only: from f32 its rows must be the ones the engine writes itself."""
    e = load(engine, name)
    exact, native = e.state(F32, F32, 60), e.state(Q8_0, Q4_0, 60)
    made = e.transcoded(exact, Q8_0, Q4_0)
    part = 1 if name in SLIDING and e.geometry.parts[1][0] == e.geometry.first else 0
    assert equal(made.rows(made.parts[part].k[0]), native.rows(native.parts[part].k[0]))
    assert equal(made.rows(made.parts[part].v[0]), native.rows(native.parts[part].v[0]))


@pytest.mark.parametrize("name", [*RECURRENT, "deepseek2"])
def test_other_states_are_recognised_by_reading_them(engine: Callable[..., Engine], name: str) -> None:
    e = load(engine, name)
    for n_tokens in (1, 50):
        state = e.state(F16, F16, n_tokens)
        assert RECURRENT.get(name, "K without V") in state.obstacle
        with pytest.raises(StateError):
            transcoded_size(state, e.geometry, Q8_0, Q8_0)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
@pytest.mark.parametrize("n_ctx", [256, 512, 2048])
def test_a_state_fits_contexts_of_other_lengths(engine: Callable[..., Engine], name: str, n_ctx: int) -> None:
    """The length may change with the types, as long as every cell finds room."""
    e = load(engine, name)
    made = e.transcoded(e.state(F16, F16, 100), Q8_0, Q4_0)
    with e.context(Q8_0, Q4_0, n_ctx=n_ctx) as context:
        assert context.load_state(made.data)
        assert equal(save(context).data, made.data)
        assert context.decode(e.tokens(20), 100) == 0
        assert context.last_position() == 119
        assert np.isfinite(context.logits()).all()


def test_a_state_longer_than_the_context_is_refused(engine: Callable[..., Engine]) -> None:
    """llama.cpp says no, and the context stays as it was."""
    e = engine()
    made = e.transcoded(e.state(F16, F16, 300), Q8_0, Q8_0)
    with e.context(Q8_0, Q8_0, n_ctx=256) as context:
        assert not context.load_state(made.data)
        assert context.last_position() == -1
        assert context.decode(e.tokens(20), 0) == 0


def test_a_state_of_other_types_is_refused(engine: Callable[..., Engine]) -> None:
    e = engine()
    source = e.state(F16, F16, 40)
    for type_k, type_v in ((Q8_0, F16), (F16, Q8_0), (type_ids(64)["bf16"], F16)):
        with e.context(type_k, type_v) as context:
            assert not context.load_state(source.data)
            assert context.last_position() == -1
