"""One row of the stretch table. A module of its own: the interface needs it before its first frame."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StretchRow:
    """How far the context can stretch with one cache setting."""

    type_k: str
    type_v: str
    tail: int
    """Tokens of the exact window, 0 for none."""
    bytes_per_token: float
    kv_bytes: int
    """Size of the cache at the present length of the context."""
    max_ctx: int
    """Longest context that fits in the memory that is available now, at most the trained one."""
    max_ctx_memory: int
    """The same without regard to the trained length."""
    limit: str
    """What stops it: ``memory`` or ``trained``."""
    refused: str = ""
    """Why this setting cannot be used with this model, or empty."""
