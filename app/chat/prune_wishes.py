"""The session's part about pruning: what is pinned, what would go, and doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.engine import protocol
from app.engine.protocol import FullOption, Pin, PruneCache, PrunePreview, Turn
from quantize.errors import UsageError

if TYPE_CHECKING:
    from app.chat.session import Session

MOST_TRIES = 4
"""One reply may make room by pruning this many times; then the user is asked."""


class PruneWishes:
    """Sends prunes to the engine. Pins are texts: they are found again wherever the conversation goes."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pins: dict[int, list[str]] = {}
        self._tries: tuple[int, int] = (0, 0)  # a reply, and how often room was made for it

    def pin(self, text: str) -> str:
        """Keep a passage, or the last message, from being pruned; a sentence that says so.

        Raises:
            UsageError: if no message holds the passage.
        """
        page = self._session.page
        message = next(
            (m for m in reversed(page.messages) if (text in m.content if text else m.role == "user")), None
        )
        if message is None:
            raise UsageError(
                "No message of this conversation holds that." if text else "Say something first."
            )
        texts = self._pins.setdefault(page.id, [])
        if (text or message.content) not in texts:
            texts.append(text or message.content)
        return "Pinned: it stays whole whatever is pruned."

    def pins(self, conversation: int) -> tuple[str, ...]:
        """The texts of a conversation that must not be pruned."""
        return tuple(self._pins.get(conversation, ()))

    def restore(self, conversation: int, pins: tuple[str, ...]) -> None:
        """Pin again what was pinned when the conversation was parked."""
        if pins:
            texts = self._pins.setdefault(conversation, [])
            texts += [pin for pin in pins if pin not in texts]

    def command(
        self, keep: float, policy: str, whole: bool, *, preview: bool, upto: int = 0, until: int = 0
    ) -> PruneCache:
        """A prune of the conversation on the page."""
        session = self._session
        turns = session.page.prompt(upto, session.settings.system_prompt)
        id = session.life.link.next_id()
        return PruneCache(id, turns, keep, policy, self._found(turns), whole, preview, until)

    async def preview(self, keep: float, policy: str, whole: bool) -> PrunePreview:
        """What a prune would do.

        Raises:
            StretchError: if it cannot be done, or the engine is not there.
        """
        command = self.command(keep, policy, whole, preview=True)
        return await self._session.life.link.ask(command, PrunePreview)

    def do(self, keep: float, policy: str, whole: bool) -> None:
        """Prune as it was shown."""
        self._session.cache.special("prune", self.command(keep, policy, whole, preview=False))

    def stop(self) -> None:
        """Give up a preview."""
        self._session.life.link.send(protocol.Stop(self._session.life.link.next_id()))

    # ---------------------------------------------------------------- a full context

    def make_room(self, option: FullOption, message_id: int) -> None:
        """Prune so far that the reply ``message_id`` fits."""
        reply, n = self._tries
        self._tries = (message_id, n + 1 if reply == message_id else 1)
        command = self.command(0.5, "", False, preview=False, upto=message_id, until=option.n_ctx)
        self._session.cache.special("prune", command)

    def failed(self, kind: str) -> None:
        """A change of this kind could not be made."""
        if kind == "prune":
            self._tries = (self._tries[0], MOST_TRIES)

    def gave_up(self, message_id: int) -> bool:
        """Whether pruning did not make room for this reply."""
        return self._tries[0] == message_id and self._tries[1] >= MOST_TRIES

    # ---------------------------------------------------------------- inside

    def _found(self, turns: tuple[Turn, ...]) -> tuple[Pin, ...]:
        pins = []
        for text in self._pins.get(self._session.page.id, ()):
            at = next((i for i, turn in enumerate(turns) if text in turn.content), -1)
            if at >= 0:
                pins.append(Pin(at, "" if text == turns[at].content else text))
        return tuple(pins)
