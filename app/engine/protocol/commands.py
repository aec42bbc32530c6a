"""What the interface tells the engine to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.engine.protocol.pieces import KEEP_TAIL, Pin, Sampling, Turn
from quantize.cache_types import AUTO_TAIL


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
    """The most threads; 0 takes the number of physical cores."""
    repack: bool = True
    """Let llama.cpp keep a second, faster copy of some weights."""
    n_gpu_layers: int = 0
    adapt_threads: bool = True
    """Compute with fewer threads while other programs keep the cores busy."""
    measure_loss: bool = False
    """Measure at idle what each cache setting costs on this model, if that is not known yet."""
    accept_loss: bool = False
    """Load with a cache that breaks the model, too."""


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
class SetThreads:
    """Compute with other threads, also in the middle of a reply. Closes with ``Status``."""

    id: int
    n_threads: int
    """As in ``Load``."""
    adapt_threads: bool


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
    accept_loss: bool = False
    """Do it even if it breaks the model; without this such a change fails with a ``BreaksModelError``."""


@dataclass(frozen=True, slots=True)
class UndoCache:
    """Go back to the cache before the last change. Closes with ``CacheChanged``."""

    id: int


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
class MeasureLoss:
    """Forget what the cache settings cost on this model and measure it again. Closes with ``Status``; the
    measuring begins when nothing else is to be done."""

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


Command = (
    Load
    | Generate
    | SetThreads
    | Stop
    | SetCache
    | UndoCache
    | PruneCache
    | Ask
    | MeasureLoss
    | CountTokens
    | Forget
    | Park
    | Resume
    | Shutdown
)
"""Any command."""
