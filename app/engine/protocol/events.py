"""What the engine reports."""

from __future__ import annotations

from dataclasses import dataclass

from app.engine.protocol.pieces import FullOption, MemoryFigures, ModelInfo
from models.stretch_row import StretchRow
from quantize.cache_types import AUTO_TAIL
from quantize.lab.loss import UNKNOWN, Loss


@dataclass(frozen=True, slots=True)
class Hello:
    """The process lives and has loaded the library."""

    pid: int
    engine: str
    """Versions of llama-cpp-python and of ggml in one line."""
    id: int = 0


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Loading goes on."""

    id: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is ready."""

    id: int
    model: ModelInfo
    type_k: str
    type_v: str
    tail: int
    """Newest tokens that are kept exactly: what there is, not what was wished for."""
    n_ctx: int
    seconds: float
    tail_wish: int = AUTO_TAIL
    """What was wished for: a number of tokens, or ``AUTO_TAIL``."""
    warning: str = ""
    """What this cache does to the model, if it breaks it."""


@dataclass(frozen=True, slots=True)
class PrefillProgress:
    """Tokens of the prompt that are read so far."""

    id: int
    n_done: int
    n_total: int
    """Tokens that must be read; the cached ones are not among them."""
    n_cached: int
    tokens_per_second: float
    eta_s: float


@dataclass(frozen=True, slots=True)
class TextChunk:
    """More text of the reply. Several tokens can share a chunk."""

    id: int
    text: str
    n_generated: int
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The reply is complete, or was stopped."""

    id: int
    reason: str
    """``end``, ``length`` (max_tokens), ``stopped`` or ``context`` (the context filled while writing)."""
    text: str
    """What this command wrote: the chunks joined. ``Generate.prefix`` is not part of it."""
    n_prompt: int
    n_cached: int
    n_generated: int
    prefill_s: float
    generate_s: float
    first_token_s: float
    seed: int = -1
    """The seed that was used, also when ``Sampling.seed`` asked for a fresh one."""
    notes: tuple[str, ...] = ()
    """Sentences about this reply that the user should see (a template that failed, a prompt that
    had to be read again)."""


@dataclass(frozen=True, slots=True)
class ContextFull:
    """The prompt does not fit. Nothing was cut; the user chooses."""

    id: int
    n_needed: int
    n_ctx: int
    options: tuple[FullOption, ...]


@dataclass(frozen=True, slots=True)
class CachePreview:
    """What a change of the cache would need and gain."""

    id: int
    type_k: str
    type_v: str
    tail: int
    n_ctx: int
    bytes_before: int
    bytes_after: int
    peak_bytes: int
    """Most memory that is needed on top of what is taken now, while it happens."""
    through_file: bool
    """Both caches do not fit at once: the state goes through a temporary file."""
    reprefill: bool
    """The state cannot be transcoded: the conversation would be read again."""
    fits: bool
    sentence: str
    """One sentence for the user."""
    reach: int = 0
    """Longest context that would fit with these types, at most the trained one; 0 if not known."""
    loss: Loss = UNKNOWN
    """What the new setting costs on this model."""
    warning: str = ""
    """Why it must not be taken unasked, and what to take instead; empty if it may."""
    losses_k: tuple[Loss, ...] = ()
    """What each type of K would cost beside this V, in the order of ``CACHE_TYPES``."""
    losses_v: tuple[Loss, ...] = ()
    """What each type of V would cost beside this K."""


@dataclass(frozen=True, slots=True)
class PrunePreview:
    """What a prune would do."""

    id: int
    policy: str
    title: str
    """What the policy goes by, for people."""
    n_before: int
    """Cells."""
    n_after: int
    bytes_freed: int
    strip: tuple[float, ...]
    """The conversation from its beginning to its end in equal parts: the share of each that stays."""
    kld: float
    """Mean KLD of the newest tokens against the cache as it is."""
    top1: float
    """Share of them for which the model still expects the same token."""
    n_probe: int
    """So many tokens were compared."""
    seconds: float
    sentence: str


@dataclass(frozen=True, slots=True)
class CacheChanged:
    """The cache has changed."""

    id: int
    type_k: str
    type_v: str
    tail: int
    n_ctx: int
    bytes_before: int
    bytes_after: int
    reach_before: int
    """Longest context that fits, before and after."""
    reach_after: int
    seconds: float
    reprefilled: bool
    can_undo: bool
    sentence: str
    tail_wish: int = AUTO_TAIL
    warning: str = ""
    """What this cache does to the model, if it breaks it."""


@dataclass(frozen=True, slots=True)
class Status:
    """The figures of the panel. Sent twice per second while something runs, and when asked."""

    id: int
    n_used: int
    n_ctx: int
    type_k: str
    type_v: str
    tail: int
    memory: MemoryFigures
    rows: tuple[StretchRow, ...]
    prefill_tps: float
    generate_tps: float
    first_token_s: float
    can_undo: bool
    n_gone: int = 0
    """Cells that pruning has freed so far; they are not among ``n_used``."""
    n_threads: int = 0
    """Threads that compute."""
    most_threads: int = 0
    """Threads that would, if no other program kept a core busy."""
    measuring: float = -1.0
    """Share of the settings whose loss is measured, while that goes on; negative if it does not."""
    reading_threads: int = 0
    """The same for reading a text."""
    threads_why: str = ""
    """Why it is these numbers: a sentence."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The answer to ``CountTokens``."""

    id: int
    n_tokens: int
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Parked:
    """The cache was put away."""

    id: int
    path: str
    n_tokens: int
    n_bytes: int
    """Of the file and the beginning that it shares; 0 if the conversation is too short to be worth one."""
    f16_bytes: int
    """Of the same cells in an f16 cache."""
    seconds: float
    codec: str
    n_shared: int = 0
    """Tokens of a beginning that other conversations share, and"""
    shared_bytes: int = 0
    """bytes of it."""
    n_gone: int = 0
    """Cells that a prune had taken."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The cache holds a parked conversation, or nothing."""

    id: int
    n_tokens: int
    seconds: float
    sentence: str
    """One sentence for the user; empty if there was no file."""
    n_gone: int = 0
    """Cells that a prune had taken before it was parked."""
    pins: tuple[str, ...] = ()
    """Texts that must not be pruned."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A command could not be done. The engine goes on as before it."""

    id: int
    kind: str
    """Name of the exception in ``quantize.errors``."""
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Died:
    """Made by the parent, not sent: the process is gone. Commands under way are lost."""

    id: int
    sentence: str
    exit_code: int


Event = (
    Hello
    | LoadProgress
    | Loaded
    | PrefillProgress
    | TextChunk
    | Finished
    | ContextFull
    | CachePreview
    | PrunePreview
    | CacheChanged
    | Status
    | TokenCount
    | Parked
    | Resumed
    | Failed
    | Died
)
"""Any event."""
