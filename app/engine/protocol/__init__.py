"""The messages between the interface and the engine's process.

Commands go down, events come up; each is a small frozen dataclass that travels as one line
of JSON, so nothing that arrives is ever executed. The engine does one command at a time,
except ``Stop`` and ``Shutdown``, which end what it does, and those that it does between two tokens
and during a prefill (``app.engine.inbox.URGENT``).

Every command carries an ``id``; the events that belong to it carry the same id. A command
ends with exactly one closing event (named in its docstring) or with ``Failed``.
"""

from app.engine.protocol.commands import (
    Ask,
    Command,
    CountTokens,
    Forget,
    Generate,
    Load,
    MeasureLoss,
    Park,
    PruneCache,
    Resume,
    SetCache,
    SetThreads,
    Shutdown,
    Stop,
    UndoCache,
)
from app.engine.protocol.events import (
    CacheChanged,
    CachePreview,
    ContextFull,
    Died,
    Event,
    Failed,
    Finished,
    Hello,
    Loaded,
    LoadProgress,
    Parked,
    PrefillProgress,
    PrunePreview,
    Resumed,
    Status,
    TextChunk,
    TokenCount,
)
from app.engine.protocol.pieces import (
    KEEP_TAIL,
    FullOption,
    MemoryFigures,
    ModelInfo,
    Pin,
    Sampling,
    Turn,
)

__all__ = [
    "KEEP_TAIL",
    "Ask",
    "CacheChanged",
    "CachePreview",
    "Command",
    "ContextFull",
    "CountTokens",
    "Died",
    "Event",
    "Failed",
    "Finished",
    "Forget",
    "FullOption",
    "Generate",
    "Hello",
    "Load",
    "LoadProgress",
    "Loaded",
    "MeasureLoss",
    "MemoryFigures",
    "ModelInfo",
    "Park",
    "Parked",
    "Pin",
    "PrefillProgress",
    "PruneCache",
    "PrunePreview",
    "Resume",
    "Resumed",
    "Sampling",
    "SetCache",
    "SetThreads",
    "Shutdown",
    "Status",
    "Stop",
    "TextChunk",
    "TokenCount",
    "Turn",
    "UndoCache",
]
