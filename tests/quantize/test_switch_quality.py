"""What a switch costs the model's answers, against a native prefill with the target types.

The measure is the KLD of the next-token distributions to those of an f16 cache, over a text that
is read after a prompt. A native prefill reads the prompt with the compressed cache already; a
switched conversation has read it with the types before. The switched one must not be further from
f16 than the native one; a wrong rotation, or one on the wrong blocks, would be ten times as far.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from quantize.llama import Context
from quantize.state import SavedState
from tests.quantize.conftest import Engine, type_ids

N_PROMPT, N_REST = 192, 64
F16 = 1

MODELS = [
    pytest.param("llama", {"head_dim": d, "n_head": 4, "n_head_kv": kv}, id=f"head{d}-gqa{4 // kv}")
    for d in (64, 128, 256)
    for kv in (4, 2, 1)
]
MODELS += [
    pytest.param(
        name, {"head_dim": d, "n_swa": 96, "n_head": 4, "n_head_kv": kv}, id=f"{name}-head{d}-gqa{4 // kv}"
    )
    for name, d, kv in (
        ("gemma2", 64, 2),
        ("gemma3", 128, 1),
        ("olmo2", 64, 4),
        ("gpt-oss", 64, 4),
        ("gemma4", 256, 2),
    )
]
PAIRS = [("q8_0", "q8_0"), ("q4_0", "q4_0"), ("q8_0", "q4_0"), ("f16", "iq4_nl"), ("q5_1", "bf16")]


def log_probabilities(context: Context, engine: Engine) -> NDArray[np.float64]:
    """Of every next token of the rest of the text, shape (N_REST, n_vocab); the prompt is in the cache."""
    rest = engine.tokens(N_PROMPT + N_REST)[N_PROMPT:]
    assert context.decode(rest, N_PROMPT, logits="all") == 0
    logits = np.stack([context.logits(i) for i in range(N_REST)]).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def kld(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Mean Kullback-Leibler divergence of ``q`` from ``p``, without the sixteenth of largest ones.

    A mixture of experts can send a token to another expert for the smallest difference; one such
    token would outweigh all others.
    """
    each = np.sort((np.exp(p) * (p - q)).sum(axis=1))
    return float(each[: N_REST - N_REST // 16].mean())


def answers(engine: Engine, state: SavedState) -> NDArray[np.float64]:
    """The log probabilities that a new context of the state's types gives after loading it."""
    part = state.parts[0]
    with engine.context(part.k[0].type_id, part.v[0].type_id, n_ctx=512, n_outputs=N_REST) as context:
        assert context.load_state(state.data)
        return log_probabilities(context, engine)


@pytest.mark.parametrize("name,parameters", MODELS)
def test_a_switch_is_no_worse_than_a_native_prefill(
    engine: Callable[..., Engine], name: str, parameters: dict[str, int]
) -> None:
    e = engine(name, **parameters)
    ids = type_ids(parameters["head_dim"])
    f16 = e.state(F16, F16, N_PROMPT)
    exact = answers(e, f16)
    native: dict[str, float] = {}
    for k, v in PAIRS:
        native[f"{k}/{v}"] = kld(exact, answers(e, e.state(ids[k], ids[v], N_PROMPT)))
        switched = kld(exact, answers(e, e.transcoded(f16, ids[k], ids[v])))
        assert switched <= native[f"{k}/{v}"], (k, v)
    for before, after in (("q8_0", "q4_0"), ("q4_0", "q8_0"), ("q4_0", "f16")):
        state = e.state(ids[before], ids[before], N_PROMPT)
        switched = kld(exact, answers(e, e.transcoded(state, ids[after], ids[after])))
        coarsest = max(native.get(f"{t}/{t}", 0.0) for t in (before, after))
        assert switched <= 1.1 * coarsest, (before, after)
