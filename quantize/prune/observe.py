"""Attention seen while a part of the text is read once more.

It happens in a context of its own that holds a copy of the conversation, so whatever goes wrong, and
wherever it is stopped, the conversation itself is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize.errors import EngineError
from quantize.llama import Context, Model
from quantize.native import attention
from quantize.native.attention_mass import Seen, Watched
from quantize.prune.layer import Floats
from quantize.prune.policy import Observation

CHUNK = 2048
"""Tokens that are repeated at a time (as in KVzip); their cells are removed again."""

OVERLAP = 8
"""Tokens of the last chunk with which the next one begins, so that it is clear what is repeated."""

REQUEST = "Repeat the text above, word for word."

Reading = Callable[[int, int], bool | None]
"""Called with (tokens read, tokens in all); False stops."""


@dataclass(frozen=True)
class Observed:
    """What was seen, per layer."""

    seen: tuple[Seen, ...]
    queries: tuple[Floats, ...]
    query_positions: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Text:
    """What the cells of a state were read from."""

    tokens: Sequence[int]
    """All that was read, one per position from 0 on."""
    whole_from: int = 0
    """From this position on no token was pruned before."""
    before: Sequence[int] = ()
    """Tokens that end the text and ask for its repetition, up to where the reply begins."""


def extra_cells(observation: Observation, text: Text) -> int:
    """Cells that the observing context needs beyond those of the state."""
    if observation.look != "replay":
        return 0
    return min(CHUNK, len(text.tokens)) + OVERLAP + len(text.before)


@contextmanager
def watching_context(
    model: Model, n_ctx: int, type_k: int, type_v: int, n_threads: int, n_outputs: int = 1
) -> Iterator[tuple[Context, Watched]]:
    """A context whose attention can be watched.

    Raises:
        EngineError: if the kernel is not available, or llama.cpp does not make the context.
    """
    status = attention.enable()
    if not status.ok:
        raise EngineError(status.reason)
    was = attention.in_use()
    attention.use("own")
    try:
        with Context(
            model,
            n_ctx=n_ctx,
            type_k=type_k,
            type_v=type_v,
            n_threads=n_threads,
            n_outputs_max=n_outputs,
        ) as context:
            watched = Watched.newest()
            assert watched is not None
            try:
                yield context, watched
            finally:
                watched.stop()
    finally:
        attention.use(was)


def observe(
    context: Context,
    watched: Watched,
    observation: Observation,
    text: Text,
    n_cells: int,
    n_layer: int,
    on_progress: Reading | None = None,
) -> Observed:
    """Read what the policy asks for.

    Args:
        context: holds the state; what it holds afterwards is of no further use.
        n_cells: cells of the state.
        n_layer: layers that have cells.

    Raises:
        EngineError: if llama.cpp fails, or it was stopped.
    """
    runs = list(_runs(observation, text))
    n_all = sum(len(tokens) for _, tokens in runs)
    if not watched.start(n_cells, observation.n_queries):
        raise EngineError("There is no memory to add the attention up.")
    done = 0
    for position, tokens in runs:
        if context.last_position() >= position and not context.remove(position):
            raise EngineError("This model cannot read a part of the text again.")
        for at in range(0, len(tokens), context.n_batch):
            batch = tokens[at : at + context.n_batch]
            code = context.decode(batch, position + at, logits="none")
            if code:
                raise EngineError(
                    "The pruning was stopped; the cache is as it was."
                    if code == 2
                    else f"llama.cpp could not read the text again (code {code})."
                )
            done += len(batch)
            if on_progress is not None and on_progress(done, n_all) is False:
                raise EngineError("The pruning was stopped; the cache is as it was.")
    watched.check()
    seen = [watched.layer(i) for i in range(n_layer)]
    if any(s is None for s in seen):
        raise EngineError("The attention of this model is not computed by the own kernel.")
    queries = tuple(
        watched.queries(i) if observation.n_queries else np.empty((0, 0, 0), np.float32)
        for i in range(n_layer)
    )
    first, tokens = runs[0]
    where = np.arange(first, first + len(tokens), dtype=np.int32)
    return Observed(tuple(s for s in seen if s is not None), queries, where)


def _runs(observation: Observation, text: Text) -> Iterator[tuple[int, list[int]]]:
    """Position and tokens of everything that is read."""
    n = len(text.tokens)
    if observation.look == "replay":
        for start in range(0, n, CHUNK):
            again = max(0, start - OVERLAP)
            yield n, [*text.before, *text.tokens[again : start + CHUNK]]
    else:
        n_tokens = n if observation.look == "everything" else min(n, observation.n_tokens)
        first = min(max(n - n_tokens, text.whole_from), n - 1)
        yield first, list(text.tokens[first:])
