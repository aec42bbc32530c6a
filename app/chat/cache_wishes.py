"""The session's part about the cache: what the user wants of it, and what came of that."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.chat import messages as news
from app.chat.cache_control import CacheControl, CacheState, next_preset, presets
from app.engine import protocol
from app.engine.protocol import KEEP_TAIL
from app.store.preferences import Scope
from quantize.errors import BreaksModelError, StretchError

if TYPE_CHECKING:
    from app.chat.session import Session

KEYS = ("type_k", "type_v", "n_ctx", "tail")


class CacheWishes:
    """Sends changes of the cache to the engine, one at a time, and remembers those that were made."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.control = CacheControl()

    @property
    def now(self) -> CacheState:
        """The cache as the engine has it, or as it will be loaded."""
        return self.control.now

    @property
    def changing(self) -> bool:
        """Whether a change is under way."""
        return bool(self.control.in_flight)

    def want(
        self,
        type_k: str = "",
        type_v: str = "",
        n_ctx: int = -1,
        tail: int = KEEP_TAIL,
        *,
        remember: bool = True,
    ) -> None:
        """Change several parts at once.

        Raises:
            CacheTypeError: if there is no such type.
        """
        before = self.control.wanted
        self.control.want(type_k, type_v, n_ctx, tail)
        if self._session.loaded is not None:
            self._send()
            return
        self.control.now = self.control.wanted
        self._session.life.keep(self.control.now)
        if remember:
            self._remember(before)

    def accept(self, state: CacheState) -> None:
        """Take a setting that breaks the model: the person wants it."""
        self.control.accept(state)
        if self._session.loaded is not None:
            self._send()

    def next_preset(self, step: int) -> None:
        """Go on to the next preset that this model can use. Keys pressed quickly add up."""
        status = self._session.status
        wanted = self.control.wanted
        choices = presets(status.rows if status else ())
        self.want(*next_preset((wanted.type_k, wanted.type_v), choices, step))

    def undo(self) -> None:
        """Go back to the cache before the last change."""
        session = self._session
        if session.loaded is None or (session.status is not None and not session.status.can_undo):
            session.notify("There is no change of the cache to undo.")
            return
        self._special("undo", protocol.UndoCache(session.life.link.next_id()))

    def reprefill(self) -> None:
        """Read the conversation again with the present types."""
        if self._session.loaded is not None:
            self._special("reprefill", protocol.SetCache(self._session.life.link.next_id(), reprefill=True))

    def special(self, kind: str, command: protocol.PruneCache) -> None:
        """Send something that changes the cache and is no wish for other settings."""
        if self._session.loaded is not None:
            self._special(kind, command)

    async def preview(self, type_k: str, type_v: str, n_ctx: int, tail: int) -> protocol.CachePreview:
        """What a change would need and gain.

        Raises:
            StretchError: if the engine refuses or is not there.
        """
        link = self._session.life.link
        command = protocol.SetCache(link.next_id(), type_k, type_v, n_ctx, tail, preview=True)
        return await link.ask(command, protocol.CachePreview)

    # ---------------------------------------------------------------- what came of it

    def loaded(self, loaded: protocol.Loaded) -> None:
        """A model was loaded with this cache."""
        self.control.settled(CacheState(loaded.type_k, loaded.type_v, loaded.n_ctx, loaded.tail_wish))

    def changed(self, changed: protocol.CacheChanged) -> None:
        """The engine has changed its cache."""
        session = self._session
        before, kind = self.control.now, self.control.kind
        went_up = self.control.done(changed) and not changed.reprefilled and kind == "set"
        session.life.keep(self.control.now)
        if session.life.loaded is not None:
            session.life.loaded = replace(
                session.life.loaded,
                type_k=changed.type_k,
                type_v=changed.type_v,
                n_ctx=changed.n_ctx,
                tail=changed.tail,
                tail_wish=changed.tail_wish,
            )
        self._remember(before)
        session.post(news.CacheSwitched(changed, went_up))
        self._send()
        session.ask_figures()
        session.announce_phase()

    def failed(self, failed: protocol.Failed) -> bool:
        """A change could not be made. False if the failure belongs to something else."""
        if not failed.id or failed.id != self.control.in_flight:
            return False
        self._session.prune.failed(self.control.kind)
        asked = self.control.sent
        self.control.failed()
        if failed.kind == BreaksModelError.__name__:
            self._session.post(news.LossQuestion(f"{failed.message} {failed.hint}".strip(), asked))
            self._session.announce_phase()
            return True
        self._session.notify(f"{failed.message} {failed.hint}".strip(), "error")
        self._session.announce_phase()
        return True

    def engine_died(self) -> bool:
        """The engine is gone; whether a change was under way."""
        changing = self.changing
        self.control.failed()
        return changing

    # ---------------------------------------------------------------- inside

    def _send(self) -> None:
        command = self.control.next_command(self._session.life.link.next_id())
        if command is not None:
            self._session.life.link.send(command)
            self._session.announce_phase()

    def _special(
        self, kind: str, command: protocol.SetCache | protocol.UndoCache | protocol.PruneCache
    ) -> None:
        if self.control.special(kind, command.id):
            self._session.life.link.send(command)
            self._session.announce_phase()

    def _remember(self, before: CacheState) -> None:
        """Keep what differs from ``before`` for this model and this conversation."""
        session = self._session
        scopes = [Scope(model=session.model)]
        if session.page.id:
            scopes.append(Scope(conversation=session.page.id))
        try:
            for key in KEYS:
                value = getattr(self.control.now, key)
                if value != getattr(before, key):
                    session.overrides.pop(key, None)
                    for scope in scopes:
                        session.preferences.set_for(scope, key, value)
        except StretchError as error:
            session.complain(error)
        session.resolve_settings()
