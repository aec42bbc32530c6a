"""What commands and events are made of."""

from __future__ import annotations

from dataclasses import dataclass

KEEP_TAIL = -2
"""A window in a wish that leaves it as it is."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation as the chat template sees it."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. The defaults are llama.cpp's own, rounded."""

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int = -1
    """-1 draws a new seed for every reply."""
    max_tokens: int = -1
    """-1 lets the model end the reply itself."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a loaded model."""

    path: str
    name: str
    n_ctx_train: int
    head_dim_k: int
    head_dim_v: int
    n_swa: int
    """Width of the sliding window, 0 for none."""
    transcodes: bool
    """Whether the state can change type without a prefill; found out by reading a state."""
    no_transcode_reason: str
    notes: tuple[str, ...] = ()
    """Sentences that the user should see once."""


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """The engine's memory, predicted and measured, in bytes."""

    weights_mapped: int = 0
    weights_repacked: int = 0
    kv_predicted: int = 0
    kv_measured: int = 0
    compute: int = 0
    overhead: int = 0
    """The interpreter, the libraries and buffers that belong to no tensor."""
    predicted_total: int = 0
    rss: int = 0
    """What the engine's process takes now."""
    available: int = 0
    """What the machine (or its cgroup) could still give."""
    total: int = 0


@dataclass(frozen=True, slots=True)
class Pin:
    """What a prune must leave whole."""

    turn: int
    """Index of the message among the turns of the command."""
    text: str = ""
    """Only this passage of it; empty for all of it."""


@dataclass(frozen=True, slots=True)
class FullOption:
    """One way out of a full context and what it costs."""

    action: str
    """``longer``, ``smaller`` (cache type), ``prune`` or ``drop`` (oldest turns)."""
    sentence: str
    type_k: str = ""
    type_v: str = ""
    n_ctx: int = 0
    n_drop: int = 0
    """Turns that would be dropped, the system prompt never among them."""
    tail: int = KEEP_TAIL
    """0 where it only fits without a window of exact tokens."""
