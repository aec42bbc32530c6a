"""What the command line asks of the chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LATEST = 0
"""``resume`` with this value means the conversation that was used last."""


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How the chat starts: the argument of ``StretchApp``."""

    model: str = ""
    """A name or a path that ``models.resolve`` has found already; empty takes the one of the
    settings."""
    resume: int | None = None
    """The id of a conversation, ``LATEST``, or None for a new one."""
    overrides: Mapping[str, object] = field(default_factory=dict)
    """Settings of the command line by name (``type_k``, ``n_ctx``, ...): valid until the program
    ends, stronger than those of the file. Hand them to ``Preferences.resolve``."""
