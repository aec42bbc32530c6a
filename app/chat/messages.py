"""The messages between the parts of the interface.

Two kinds. *Wishes* go up: a widget or a screen posts one and lets it bubble to the
application, which asks the session to do it. *News* come from the session: the application
receives each once and hands it to the widgets that show it.

Numbers and names travel, widgets never do; texts are plain and must be shown as such.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from textual.message import Message

from app.chat.cache_control import CacheState
from app.chat.losses import Losses
from app.engine import protocol
from app.engine.protocol import KEEP_TAIL

# --------------------------------------------------------------------------- wishes


@dataclass
class CacheWanted(Message):
    """Change the cache. Empty names, a negative length and ``KEEP_TAIL`` leave that part as it is."""

    type_k: str = ""
    type_v: str = ""
    n_ctx: int = -1
    tail: int = KEEP_TAIL
    reprefill: bool = False


@dataclass
class PreviewWanted(Message):
    """Say what a change of the cache would need and gain; the answer goes to the sender's
    ``show_preview``. A newer wish makes an older one pointless."""

    type_k: str
    type_v: str
    tail: int = KEEP_TAIL
    n_ctx: int = -1

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, PreviewWanted)


@dataclass
class PanelLeft(Message):
    """The person is done with the panel: the focus goes back to where text is written."""


@dataclass
class NextPresetWanted(Message):
    """Go on to the next cache preset."""

    step: int = 1


@dataclass
class UndoWanted(Message):
    """Go back to the cache before the last change."""


@dataclass
class ReprefillWanted(Message):
    """Read the conversation again with the present types, exactly."""


@dataclass
class LengthWanted(Message):
    """Change the length of the context; 0 opens the choice."""

    n_ctx: int = 0


@dataclass
class ModelWanted(Message):
    """Load another model: a name or a path as ``models.resolve`` takes it."""

    name: str


@dataclass
class ConversationWanted(Message):
    """Open a conversation of the store."""

    id: int
    message_id: int = 0
    """A message to scroll to (a search hit), or 0."""


@dataclass
class NewConversationWanted(Message):
    """Begin an empty conversation."""


@dataclass
class RenameWanted(Message):
    """Give a conversation another title."""

    id: int
    title: str


@dataclass
class DeleteWanted(Message):
    """Delete a conversation."""

    id: int


@dataclass
class SettingWanted(Message):
    """Change one setting (``temperature``, ``system_prompt``, ``theme`` ...)."""

    key: str
    value: object
    """None lets what holds more widely decide again."""
    scope: Literal["global", "model", "conversation"] = "conversation"


@dataclass
class CommandWanted(Message):
    """Run a slash command as if it had been typed."""

    text: str


@dataclass
class BranchWanted(Message):
    """Show the sibling of a message: ``step`` -1 or 1."""

    message_id: int
    step: int


@dataclass
class EditWanted(Message):
    """Put a user message into the composer, to be sent as a new branch."""

    message_id: int


@dataclass
class RegenerateWanted(Message):
    """Write the reply again, as a new branch. 0 means the last reply."""

    message_id: int = 0


@dataclass
class ContinueWanted(Message):
    """Let an unfinished reply go on where it stopped."""

    message_id: int = 0


@dataclass
class CopyWanted(Message):
    """Put a text on the clipboard; ``what`` names it in the notice."""

    text: str
    what: str


@dataclass
class StopWanted(Message):
    """Stop what runs now."""


# --------------------------------------------------------------------------- news

Phase = Literal[
    "starting",  # the engine's process comes up
    "loading",  # a model is read
    "ready",
    "reading",  # prefill
    "writing",  # generation
    "switching",  # the cache changes while nothing is written
    "restarting",  # the process died and comes back
    "stopped",  # no model, or the engine cannot start
]


@dataclass
class PhaseChanged(Message):
    """The engine does something else now."""

    phase: Phase
    fraction: float = 0.0
    """How much of a load is done."""


@dataclass
class ModelChanged(Message):
    """Another model is loaded."""

    loaded: protocol.Loaded


@dataclass
class StatusChanged(Message):
    """Fresh figures from the engine (at least twice per second while it works)."""

    status: protocol.Status

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, StatusChanged)


@dataclass
class CacheSwitched(Message):
    """The cache has changed."""

    changed: protocol.CacheChanged
    went_up: bool
    """The new types have more bits than the old ones: precision that is gone stays gone."""


@dataclass
class LossQuestion(Message):
    """A setting that was asked for breaks the model: ask whether it is meant."""

    text: str
    """What it does to the model, and what would do less."""
    wanted: CacheState


@dataclass
class Action:
    """A next step that a line in the conversation offers."""

    label: str
    command: str
    """The slash command that does it; its key is shown as well."""


Kind = Literal["info", "good", "warning", "error"]


@dataclass
class Notice(Message):
    """One quiet line in the conversation."""

    text: str
    kind: Kind = "info"
    actions: tuple[Action, ...] = ()


@dataclass
class LossesChanged(Message):
    """The measurement of the conversation goes on, has ended, or was forgotten."""

    losses: Losses

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, LossesChanged)


@dataclass
class ConversationOpened(Message):
    """Another conversation (or another branch of it) is on the page: draw it anew."""

    scroll_to: int = 0


@dataclass
class NotSaid(Message):
    """A message could not be stored: its text goes back to where it was written."""

    text: str


@dataclass
class TurnAdded(Message):
    """A message stands at the end of the path."""

    message_id: int


@dataclass
class TurnUpdated(Message):
    """A message was completed or changed in the store."""

    message_id: int


@dataclass
class TitleChanged(Message):
    """The conversation has another title."""

    title: str


@dataclass
class ReadingProgress(Message):
    """The prompt is being read in the place of reply ``message_id``."""

    message_id: int
    progress: protocol.PrefillProgress

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, ReadingProgress) and message.message_id == self.message_id


@dataclass
class ReplyText(Message):
    """More text of the reply ``message_id``."""

    message_id: int
    text: str
    tokens_per_second: float


@dataclass
class ReplyDone(Message):
    """The reply is complete, was stopped, or was lost with the engine."""

    message_id: int
    reason: str
    """As in ``Finished.reason``, or ``died`` or ``failed``."""


@dataclass
class SpaceRanOut(Message):
    """The conversation does not fit: the user chooses between ``full.options``."""

    full: protocol.ContextFull


@dataclass
class QueueChanged(Message):
    """Messages that wait for the engine to be ready."""

    n_waiting: int = 0
    texts: tuple[str, ...] = field(default_factory=tuple)


@dataclass
class DownloadsChanged(Message):
    """A download has got further, or the queue is another one."""

    done: bool = False
    """Whether a model is here that was not before."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, DownloadsChanged) and not message.done


@dataclass
class SettingsChanged(Message):
    """A setting has another value."""

    key: str
