"""The reply that is being made, from the wish for it to its last word."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from app.engine import protocol
from app.store.records import Figures
from app.store.store import Store
from quantize.errors import StoreError

SAVE_EVERY_S = 0.5
"""The text that is written is in the database at most this much later."""
TRY_AGAIN_S = 5.0
"""When that failed, it is tried again after this."""


@dataclass(slots=True)
class Reply:
    """One reply under way."""

    message_id: int
    prefix: str = ""
    """Text that it began with (when it goes on after an interruption)."""
    text: str = ""
    """Everything that is written of it so far, the prefix included."""
    command: int = 0
    """Id of the ``Generate`` that makes it; 0 while it waits for the engine."""
    n_lost: int = 0
    """How often the engine died before the first word."""
    stopping: bool = False

    @property
    def writing(self) -> bool:
        """Whether words have arrived since the engine began."""
        return len(self.text) > len(self.prefix)

    def finished_text(self, finished: protocol.Finished) -> str:
        """The whole text, whichever part of it the engine repeats at the end."""
        if len(self.text) >= len(self.prefix) + len(finished.text):
            return self.text
        return self.prefix + finished.text


class PartialSaver:
    """Commits a growing reply soon after it grew, at most a few times per second."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None

    def grew(self, reply: Reply) -> None:
        """The reply has more text."""
        self._pending = reply
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SAVE_EVERY_S, self.save)

    def save(self) -> None:
        """Commit now what is pending."""
        self.forget_timer()
        if self._pending is None:
            return
        try:
            self._store.update_partial(self._pending.message_id, self._pending.text)
        except StoreError:  # said when the reply is over
            self._timer = asyncio.get_running_loop().call_later(TRY_AGAIN_S, self.save)
            return
        self._pending = None

    def drop(self) -> None:
        """Nothing is pending any more (the final text was committed)."""
        self.forget_timer()
        self._pending = None

    def forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def figures_of(finished: protocol.Finished, loaded: protocol.Loaded) -> Figures:
    """What the store keeps about a reply."""
    return Figures(
        model=loaded.model.name,
        n_prompt=finished.n_prompt,
        n_cached=finished.n_cached,
        n_generated=finished.n_generated,
        prefill_s=finished.prefill_s,
        generate_s=finished.generate_s,
        first_token_s=finished.first_token_s,
        type_k=loaded.type_k,
        type_v=loaded.type_v,
        tail=loaded.tail,
        n_ctx=loaded.n_ctx,
        reason=finished.reason,
    )
