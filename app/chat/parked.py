"""The caches of conversations that are not on the page: put away, brought back, counted and removed."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app import paths
from app.chat import format
from app.engine import protocol
from app.store.parked import drop, drop_unused, keep_within, parked_files, parked_path
from quantize.errors import StoreError

if TYPE_CHECKING:
    from app.chat.session import Session


@dataclass(frozen=True, slots=True)
class _Held:
    """What a file holds."""

    conversation: int
    n_tokens: int
    n_gone: int
    pins: tuple[str, ...]


_NOTHING = _Held(0, 0, 0, ())


class ParkedChats:
    """The session's part about parking."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked: dict[int, bool] = {}
        """Commands under way, and whether the user wants to hear of their result."""
        self._pins: dict[int, tuple[str, ...]] = {}
        """The pins that went with them."""
        self._held = _NOTHING
        """What was parked or resumed last: it need not be written again."""

    @property
    def idle(self) -> bool:
        """Whether nothing is being written."""
        return not self._pins

    # ---------------------------------------------------------------- files

    def sweep(self) -> None:
        """Remove what belongs to no conversation any more, and what a crash left half written."""
        directory = paths.parked_dir()
        with contextlib.suppress(OSError):
            for path in directory.glob(".*.tmp"):
                with contextlib.suppress(OSError):
                    path.unlink()
        for file in parked_files():
            if self._is_gone(file.conversation):
                drop(file.conversation)
        drop_unused()

    def _is_gone(self, conversation: int) -> bool:
        """Whether a conversation is known to be no more; a store that cannot be read does not say so."""
        try:
            return not self._session.store.has(conversation)
        except StoreError:
            return False

    def delete(self, conversation: int) -> None:
        """The conversation is deleted, and what was parked of it with it."""
        drop(conversation)
        if self._held.conversation == conversation:
            self._held = _NOTHING

    # ---------------------------------------------------------------- leaving and entering

    def leave(self, *, asked: bool = False, codec: str = "") -> bool:
        """Put the cache of the conversation on the page away. False if there is nothing to put away.

        Args:
            asked: the user did, and wants to hear what came of it.
            codec: another one than the settings name.
        """
        session = self._session
        status, s = session.status, session.settings
        if session.loaded is None or not session.page.id or not (s.park or asked):
            return False
        n_used, n_gone = (status.n_used, status.n_gone) if status is not None else (0, 0)
        pins = session.prune.pins(session.page.id)
        now = _Held(session.page.id, n_used + n_gone, n_gone, pins)
        unchanged = self._held == now and parked_path(session.page.id).exists()
        if not asked and (unchanged or not s.park_budget):
            return False
        try:
            directory = paths.private_dir(paths.parked_dir())
        except StoreError as error:
            session.complain(error)
            return False
        id = session.life.link.next_id()
        self._asked[id] = asked
        self._pins[id] = pins
        path = directory / f"{session.page.id}.park"
        return session.life.link.send(
            protocol.Park(id, str(path), session.page.id, codec or s.park_codec, float(s.park_kld), pins)
        )

    def enter(self) -> bool:
        """Bring the cache of the conversation on the page back. False if none is parked."""
        session = self._session
        path = parked_path(session.page.id)
        if session.loaded is None or not session.page.id or not path.exists():
            return False
        return session.life.link.send(protocol.Resume(session.life.link.next_id(), str(path)))

    # ---------------------------------------------------------------- news of the engine

    def parked(self, event: protocol.Parked) -> None:
        """A file is complete."""
        session = self._session
        path = Path(event.path)
        conversation = int(path.stem) if path.stem.isdigit() else 0
        pins = self._pins.pop(event.id, ())
        if event.n_bytes:
            if self._is_gone(conversation) or session.is_deleted(conversation):
                drop(conversation)
                return
            if conversation == session.page.id or not self._held.conversation:
                self._held = _Held(conversation, event.n_tokens, event.n_gone, pins)
            for file in parked_files():  # the engine writes others again, too
                if session.is_deleted(file.conversation):
                    drop(file.conversation)
            keep_within(session.settings.park_budget << 20)
        if self._asked.pop(event.id, False):
            session.notify(sentence(event), "good" if event.n_bytes else "info")

    def resumed(self, event: protocol.Resumed) -> None:
        """The cache holds the conversation again, or could not be filled."""
        session = self._session
        if event.n_tokens:
            session.prune.restore(session.page.id, event.pins)
            pins = session.prune.pins(session.page.id)
            self._held = _Held(session.page.id, event.n_tokens, event.n_gone, pins)
            with contextlib.suppress(OSError):
                os.utime(parked_path(session.page.id))
        elif event.sentence:
            drop(session.page.id)
        if event.sentence:
            session.notify(event.sentence)

    def failed(self, event: protocol.Failed) -> bool:
        """Whether this was about parking. Only a wish of the user is answered: without a file the
        conversation is read again, as ever."""
        if event.id not in self._asked:
            return False
        self._pins.pop(event.id, None)
        if self._asked.pop(event.id):
            self._session.notify(f"{event.message} {event.hint}".strip(), "warning")
        return True


def sentence(event: protocol.Parked) -> str:
    """What was parked, in one sentence."""
    if not event.n_bytes:
        return f"{format.count(event.n_tokens)} tokens are read again faster than a file; nothing was parked."
    ratio = event.f16_bytes / event.n_bytes
    pruned = f", pruned to {format.count(event.n_tokens - event.n_gone)}," if event.n_gone else ""
    shared = (
        f" {format.size(event.shared_bytes)} of it, the first {format.count(event.n_shared)} tokens, are "
        "on the disk once for all conversations that begin so."
        if event.n_shared
        else ""
    )
    return (
        f"Parked {format.count(event.n_tokens)} tokens{pruned} with {event.codec} in "
        f"{format.size(event.n_bytes)}, {ratio:.1f} times smaller than f16, in {event.seconds:.1f} s.{shared}"
    )
