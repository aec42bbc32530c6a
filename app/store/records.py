"""What the store keeps, as the rest of the program sees it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
State = Literal["partial", "complete", "stopped"]
"""``partial``: being written. ``stopped``: ended by the user, or by the end of a process."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a reply cost. Everything is 0 or empty where it was not measured."""

    model: str = ""
    n_prompt: int = 0
    n_cached: int = 0
    n_generated: int = 0
    prefill_s: float = 0.0
    generate_s: float = 0.0
    first_token_s: float = 0.0
    type_k: str = ""
    type_v: str = ""
    tail: int = 0
    n_ctx: int = 0
    reason: str = ""
    """Why the reply ended: the ``reason`` of ``protocol.Finished``."""

    def to_dict(self) -> dict[str, Any]:
        """Only what differs from the defaults."""
        return {k: v for k, v in asdict(self).items() if v != _NOTHING[k]}

    def to_json(self) -> str:
        """``to_dict`` as a text, empty if there is nothing."""
        kept = self.to_dict()
        return json.dumps(kept, separators=(",", ":")) if kept else ""

    @classmethod
    def from_json(cls, text: str) -> Figures:
        """Read what ``to_json`` wrote; keys of other versions and values of a wrong type are left out."""
        if not text:
            return _NO_FIGURES
        try:
            data = json.loads(text)
        except ValueError:
            return _NO_FIGURES
        return cls.from_dict(data) if isinstance(data, dict) else _NO_FIGURES

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Figures:
        """As ``from_json``, from an object that is parsed already."""
        kept: dict[str, Any] = {}
        for name, default in _NOTHING.items():
            value, kind = data.get(name), type(default)
            if isinstance(value, bool):
                continue
            if isinstance(value, kind) or (kind is float and isinstance(value, int)):
                kept[name] = kind(value)
        return cls(**kept)


_NO_FIGURES = Figures()
_NOTHING: dict[str, Any] = asdict(_NO_FIGURES)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text file that was attached to a message, as it was at that moment."""

    name: str
    """What the person typed after ``@``."""
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the tree."""

    id: int
    conversation: int
    parent: int | None
    """None for the first message of a conversation (there can be several: edits of the first)."""
    role: Role
    content: str
    """As it was typed or generated, without the attachments."""
    state: State
    created: float
    """Seconds since the epoch."""
    figures: Figures = field(default_factory=Figures)
    attachments: tuple[Attachment, ...] = ()
    n_siblings: int = 1
    """Messages that stand at this place, this one included."""
    sibling_index: int = 0
    """Which of them this is, counted from 0 in the order of their making."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation, without its messages."""

    id: int
    title: str
    created: float
    updated: float
    """When a message was last added or changed: the order of the list."""
    model: str
    """The model's name or path as ``models.resolve`` takes it."""
    settings: str
    """Settings of this conversation alone: a TOML text, see ``app.store.settings``."""
    pinned: bool
    leaf: int | None
    """The last message of the branch that is shown; None while there is none."""
    n_messages: int
    """Messages of all branches."""
    preview: str = ""
    """The beginning of the last message on the branch that is shown."""
    seen_from: int = 0
    """The first message that the model is told of, 0 for all: earlier ones were dropped to make room."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A conversation in which something was found."""

    conversation: Conversation
    message: int | None
    """The best message, None if only the title matches."""
    snippet: str
    """A stretch of that message (or the title) on one line."""
    spans: tuple[tuple[int, int], ...]
    """Start and end of each match within ``snippet``."""
    n_hits: int
    """Messages of this conversation that match."""
