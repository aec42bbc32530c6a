"""When a conversation does not fit: the ways out and what each costs."""

from __future__ import annotations

from app.engine import words
from app.engine.prompt import Prompt
from app.engine.protocol import KEEP_TAIL, ContextFull, FullOption, Generate, Turn
from app.engine.session import Session
from models.plan import round_up

REPLY_ROOM = 32
"""Tokens that must be free for the reply, or fewer if fewer are asked for."""

GROWTH = 2
"""A longer context is this much longer, if there is room for it."""


def check_room(command: Generate, prompt: Prompt, session: Session) -> ContextFull | None:
    """None if the prompt and the beginning of a reply fit, else the choice."""
    wanted = command.sampling.max_tokens
    room = min(wanted, REPLY_ROOM) if wanted >= 0 else REPLY_ROOM
    needed = len(prompt.tokens) + room
    conversation = session.conversation
    if conversation.pruned is not None:
        _, n_same = session.loaded.prompts.reuse(conversation.tokens, prompt.tokens)
        if min(n_same, len(prompt.tokens) - 1) >= conversation.pruned.whole_from:
            needed -= conversation.n_gone
    n_ctx = conversation.n_ctx
    if needed <= n_ctx:
        return None
    options = (
        *_longer(needed, session),
        *_smaller(needed, session),
        *_prune(command, needed, session),
        *_drop(command, needed, session),
    )
    return ContextFull(command.id, needed, n_ctx, options)


def _longer(needed: int, session: Session) -> list[FullOption]:
    """A longer context with the present types."""
    now = session.cache.settings
    longest = session.budget.max_ctx(now)
    if longest < needed:
        return []
    n_ctx = min(longest, max(round_up(needed), now.n_ctx * GROWTH))
    grown = session.budget.planner.cache_bytes(now.pair, n_ctx, tail=now.tail)
    more = grown - session.cache.kv_bytes
    return [
        FullOption(
            "longer",
            f"Lengthen the context to {words.tokens(n_ctx)}: the cache takes {words.size(more)} more memory "
            f"({words.size(grown)}), nothing is lost.",
            now.type_k,
            now.type_v,
            n_ctx,
        )
    ]


def _smaller(needed: int, session: Session) -> list[FullOption]:
    """Cache types that fit where the present ones do not, the least loss first. What breaks the model is
    not among them."""
    now = session.cache.settings
    planner = session.budget.planner
    present = planner.bytes_per_token(now.pair)
    options = []
    for wished in session.budget.rows(now):
        tight = wished.tail and wished.max_ctx < needed
        row = session.budget.without_window(wished, now) if tight else wished
        if row.refused or row.max_ctx < needed or row.bytes_per_token >= present or row.loss.breaks:
            continue
        n_ctx = min(row.max_ctx, max(round_up(needed), now.n_ctx * GROWTH))
        bits = row.bytes_per_token / present
        loss = row.loss.sentence or "a loss that is not known"
        options.append(
            FullOption(
                "smaller",
                f"Store the cache as {words.label(row.type_k, row.type_v, row.tail)} and lengthen the "
                f"context to {words.tokens(n_ctx)}: each token takes {bits:.0%} of the memory, {loss}.",
                row.type_k,
                row.type_v,
                n_ctx,
                tail=0 if tight else KEEP_TAIL,
            )
        )
    return options


def _prune(command: Generate, needed: int, session: Session) -> list[FullOption]:
    """Prune the cache, reading what of the prompt is not in it yet."""
    option = session.pruner.option(command.turns, needed)
    return [option] if option is not None else []


def _drop(command: Generate, needed: int, session: Session) -> list[FullOption]:
    """Leave out the oldest turns, as few as needed."""
    turns = list(command.turns)
    first = 1 if turns and turns[0].role == "system" else 0
    n_ctx = session.conversation.n_ctx
    prompts = session.loaded.prompts
    room = needed - len(prompts.make(turns, command.prefix).tokens)
    # Turns go in pairs, so that the conversation still begins with the user.
    cuts = [n for n in range(2, len(turns) - first) if turns[first + n].role == "user"]
    low, high = 0, len(cuts)
    while low < high:
        middle = (low + high) // 2
        rest = _without(turns, first, cuts[middle])
        if len(prompts.make(rest, command.prefix).tokens) + room <= n_ctx:
            high = middle
        else:
            low = middle + 1
    if low == len(cuts):
        return []
    n_drop = cuts[low]
    left = len(prompts.make(_without(turns, first, n_drop), command.prefix).tokens)
    return [
        FullOption(
            "drop",
            f"Leave out the {n_drop} oldest messages: the model forgets them, and the {words.tokens(left)} "
            "that remain are read again.",
            n_ctx=n_ctx,
            n_drop=n_drop,
        )
    ]


def _without(turns: list[Turn], first: int, n: int) -> list[Turn]:
    return [*turns[:first], *turns[first + n :]]
