"""The messages between the interface and the engine's process.

Commands go down, events come up; each is a small frozen dataclass that travels as one line
of JSON, so nothing that arrives is ever executed. The engine does one command at a time,
except ``Stop``, ``SetCache``, ``Ask`` and ``Shutdown``, which it looks at between two tokens and
during a prefill.

Every command carries an ``id``; the events that belong to it carry the same id. A command
ends with exactly one closing event (named in its docstring) or with ``Failed``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from models.stretch_row import StretchRow
from quantize.cache_types import AUTO_TAIL

KEEP_TAIL = -2
"""A window in a wish that leaves it as it is."""

# --------------------------------------------------------------------------- shared pieces


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
    architecture: str
    file_bytes: int
    n_params: int
    n_layer: int
    n_ctx_train: int
    head_dim_k: int
    head_dim_v: int
    n_swa: int
    """Width of the sliding window, 0 for none."""
    template: str
    """``model`` if the chat template comes from the file, else the name of the fallback."""
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


# --------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Load:
    """Load a model and create its context. Closes with ``Loaded``."""

    id: int
    path: str
    n_ctx: int
    """0 asks for the longest that is sensible: the trained length or what fits, at most 8192."""
    type_k: str = "f16"
    type_v: str = "f16"
    tail: int = AUTO_TAIL
    """Newest tokens that are kept exactly where the cache is compressed, or ``AUTO_TAIL``."""
    n_threads: int = 0
    """0 takes the number of physical cores."""
    repack: bool = True
    """Let llama.cpp keep a second, faster copy of some weights."""
    n_gpu_layers: int = 0


@dataclass(frozen=True, slots=True)
class Generate:
    """Write the next reply. Closes with ``Finished`` or ``ContextFull``.

    The engine renders the template, keeps the prefix that its cache already holds and reads
    only the rest.
    """

    id: int
    turns: tuple[Turn, ...]
    sampling: Sampling = field(default_factory=Sampling)
    prefix: str = ""
    """Text that the reply begins with already (after a restart it goes on from here)."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop what runs now: a reply or a prefill. What was read stays read. No closing event of its own."""

    id: int


@dataclass(frozen=True, slots=True)
class SetCache:
    """Change types, window or length of the cache. Closes with ``CacheChanged``.

    Empty names, a negative length and ``KEEP_TAIL`` leave that part as it is. While a reply is being written
    the change happens between two tokens and the reply goes on.
    """

    id: int
    type_k: str = ""
    type_v: str = ""
    n_ctx: int = -1
    tail: int = KEEP_TAIL
    """Newest tokens to keep exactly, 0 for none, or ``AUTO_TAIL``."""
    reprefill: bool = False
    """Read the conversation again instead of transcoding: slow and exact."""
    preview: bool = False
    """Only answer what the change would need and gain (``CachePreview``)."""


@dataclass(frozen=True, slots=True)
class UndoCache:
    """Go back to the cache before the last change. Closes with ``CacheChanged``."""

    id: int


@dataclass(frozen=True, slots=True)
class Pin:
    """What a prune must leave whole."""

    turn: int
    """Index of the message among the turns of the command."""
    text: str = ""
    """Only this passage of it; empty for all of it."""


@dataclass(frozen=True, slots=True)
class PruneCache:
    """Drop the tokens that matter least from the cache. Closes with ``CacheChanged``.

    What the template makes of ``turns`` is read first, as far as it fits; with a prompt that does not
    fit, reading and pruning go on by turns until it does.
    """

    id: int
    turns: tuple[Turn, ...] = ()
    """The conversation: for the system prompt, which is kept, for the parts of the text, each of which
    keeps something, and for the pins. May be empty."""
    keep: float = 0.5
    """Share of the cells that stay."""
    policy: str = ""
    """One of ``quantize.prune``; empty takes the best that can be used."""
    pins: tuple[Pin, ...] = ()
    whole: bool = False
    """Choose whole tokens instead of cells of every layer and head."""
    preview: bool = False
    """Only show what would go and what it would cost (``PrunePreview``); the same command without it then
    does exactly that."""
    until: int = 0
    """Cells that the whole conversation may take: prune to that instead of ``keep``."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask for figures. Closes with ``Status``."""

    id: int


@dataclass(frozen=True, slots=True)
class CountTokens:
    """Count the tokens of a text or of a whole conversation. Closes with ``TokenCount``."""

    id: int
    text: str = ""
    turns: tuple[Turn, ...] = ()
    want_tokens: bool = False
    """Whether the answer holds the ids of the tokens too; of ``turns`` only."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Empty the cache (another conversation follows). Closes with ``Status``."""

    id: int


@dataclass(frozen=True, slots=True)
class Park:
    """Put the conversation's cache away in a file. Closes with ``Parked`` when the file is complete, which
    is later: the engine goes on with other commands meanwhile."""

    id: int
    path: str
    conversation: int = 0
    """Whose cache it is; stands in the file."""
    codec: str = "auto"
    kld: float = 0.002
    """Mean KLD that ``auto`` accepts."""
    pins: tuple[str, ...] = ()
    """Texts that must not be pruned; they go with the file."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Fill the cache from a parked file. Closes with ``Resumed``."""

    id: int
    path: str


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Free everything and end the process."""

    id: int


# --------------------------------------------------------------------------- events


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


Command = (
    Load
    | Generate
    | Stop
    | SetCache
    | UndoCache
    | PruneCache
    | Ask
    | CountTokens
    | Forget
    | Park
    | Resume
    | Shutdown
)
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
