"""What a prune left of a conversation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune left of the beginning of a conversation."""

    whole_from: int
    """From this position on every token is in the cache. What lies before stays as it is or goes as a
    whole: its cells hold other tokens in every layer and head."""
    n_gone: int
    """Cells that the tokens before it would take and do not."""
    composite: bool = True
    """Whether a cell before it may hold another token in every layer and head; else all hold the same."""
