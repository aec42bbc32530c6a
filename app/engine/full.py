"""When a conversation does not fit: the ways out and what each costs."""

from __future__ import annotations

from app.engine.prompt import Prompt
from app.engine.protocol import ContextFull, Generate

REPLY_ROOM = 32
"""Tokens that must be free for the reply, or fewer if fewer are asked for."""


def check_room(command: Generate, prompt: Prompt, n_ctx: int) -> ContextFull | None:
    """None if the prompt and the beginning of a reply fit, else the choice."""
    wanted = command.sampling.max_tokens
    needed = len(prompt.tokens) + (min(wanted, REPLY_ROOM) if wanted >= 0 else REPLY_ROOM)
    if needed <= n_ctx:
        return None
    return ContextFull(command.id, needed, n_ctx, ())
