"""Where the messages of a conversation lie among the tokens of the cache."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from app.engine.loader import LoadedModel
from app.engine.prompt import common_prefix
from app.engine.protocol import PruneCache, Turn
from quantize.errors import StretchError

MOST_TURNS = 64
"""Of a longer conversation only every so many-th message is looked for: each takes a rendering."""


def of(loaded: LoadedModel, tokens: Sequence[int], turns: Sequence[Turn]) -> tuple[int, ...]:
    """The position at which each message begins, ascending; the first is 0.

    Positions of messages that were not looked for, or are not in the cache, are those of the one before.
    """
    starts = [0]
    step = -(-len(turns) // MOST_TURNS) if turns else 1
    for i in range(1, len(turns)):
        end = starts[-1]
        if i % step == 0:
            with contextlib.suppress(StretchError):  # a template that does not take half a conversation
                end = max(end, loaded.prompts.reuse(tokens, loaded.prompts.make(turns[:i]).tokens)[1])
        starts.append(min(end, len(tokens)))
    return tuple(starts)


def protected(
    loaded: LoadedModel, tokens: Sequence[int], starts: Sequence[int], command: PruneCache
) -> tuple[tuple[int, int], ...]:
    """The system prompt and what is pinned, as spans of positions."""
    turns = command.turns
    out = []
    if turns and turns[0].role == "system":
        a, b = (loaded.prompts.make((turns[0], Turn("user", text))).tokens for text in ("a", "b"))
        out.append((0, min(common_prefix(a, b), common_prefix(a, tokens))))
    for pin in command.pins:
        if not 0 <= pin.turn < len(turns):
            continue
        start = starts[pin.turn]
        end = next((s for s in starts[pin.turn + 1 :] if s > start), len(tokens))
        out.append(_passage(loaded, tokens, start, end, pin.text) if pin.text else (start, end))
    return tuple(span for span in out if span[1] > span[0])


def _passage(loaded: LoadedModel, tokens: Sequence[int], start: int, end: int, text: str) -> tuple[int, int]:
    """The tokens between ``start`` and ``end`` that hold ``text``; all of them if it is not there."""
    ends: list[int] = []
    whole = b""
    for token in tokens[start:end]:
        whole += loaded.vocabulary.written(token)
        ends.append(len(whole))
    at = whole.find(text.encode())
    if at < 0:
        return start, end
    first = next(i for i, e in enumerate(ends) if e > at)
    last = next(i for i, e in enumerate(ends) if e >= at + len(text.encode()))
    return start + first, start + last + 1
