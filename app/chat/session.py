"""The controller between the page and the engine: no widget, no screen.

The session owns the engine's process, the store and the settings. What a person does
arrives as a method call; what the engine answers becomes a message of
``app.chat.messages`` for the application. Everything runs on the event loop's thread; the
engine's reader thread only puts events into a queue.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from app import paths
from app.chat import messages as news
from app.chat.cache_wishes import CacheWishes
from app.chat.engine_life import EngineLife, LoadPlan
from app.chat.losses import Losses
from app.chat.measuring import Measuring
from app.chat.messages import Action, Notice, Phase
from app.chat.page import Page
from app.chat.parked import ParkedChats
from app.chat.prune_wishes import PruneWishes
from app.chat.talk import Talk
from app.engine import protocol
from app.engine.protocol import KEEP_TAIL
from app.options import LATEST, ChatOptions
from app.plain_text import one_line
from app.store.preferences import EVERYWHERE, Preferences, Scope
from app.store.records import Attachment
from app.store.settings import Settings
from app.store.store import Store
from quantize.errors import StoreError, StretchError

if TYPE_CHECKING:
    from textual.message import Message

    from app.chat.download_desk import DownloadDesk

DEMONSTRATIONS = ("builtin", "builtin-ternary")
"""Models that are there to be tried, not to be believed."""

CLOSE_TIMEOUT_S = 3.0
PARK_TIMEOUT_S = 15.0
"""How long leaving waits for a conversation to be put away. What is not complete then is read again."""

ASK_EVERY_S = 2.0
"""How often the figures are asked for while nothing happens (the machine's memory changes)."""


class Session:
    """One conversation with one engine.

    Attributes that widgets may read: ``phase``, ``fraction``, ``loaded``, ``status``,
    ``page`` (the conversation), ``cache``, ``settings``, ``store``, ``preferences``.
    """

    def __init__(
        self,
        store: Store,
        preferences: Preferences,
        post: Callable[[Message], object],
        *,
        log_path: Path,
        options: ChatOptions | None = None,
    ) -> None:
        self.options = options or ChatOptions()
        self.store = store
        self.preferences = preferences
        self.post = post
        self.page = Page(store)
        self.cache = CacheWishes(self)
        self.prune = PruneWishes(self)
        self.status: protocol.Status | None = None
        self.overrides = dict(self.options.overrides)
        self.model = self.options.model
        self.life = EngineLife(log_path, self._on_event, self.announce_phase, self._on_trouble)
        self.talk = Talk(self)
        self.parked = ParkedChats(self)
        self.measuring = Measuring(self)
        self.settings: Settings = preferences.resolve(overrides=self.overrides)
        self._desk: DownloadDesk | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._told: set[str] = set()
        self._deleted: list[int] = []

    # ---------------------------------------------------------------- state

    @property
    def phase(self) -> Phase:
        """What the engine does now."""
        if self.life.state != "up":
            return self.life.state
        if self.talk.writing:
            return "writing"
        if self.talk.reading:
            return "reading"
        return "switching" if self.cache.changing else "ready"

    @property
    def fraction(self) -> float:
        """How much of a load is done."""
        return self.life.fraction

    @property
    def loaded(self) -> protocol.Loaded | None:
        """The model, or None while there is none."""
        return self.life.loaded

    @property
    def downloads(self) -> DownloadDesk:
        """Models on their way from the hub."""
        if self._desk is None:
            from app.chat.download_desk import DownloadDesk

            self._desk = DownloadDesk(paths.models_dir(), self.post)
        return self._desk

    @property
    def conversation_id(self) -> int:
        """The conversation on the page, 0 while it has no message."""
        return self.page.id

    @property
    def busy(self) -> bool:
        """Whether a reply is being made or waits for the engine."""
        return self.talk.reply is not None

    @property
    def losses(self) -> Losses:
        """What was measured on this conversation."""
        return self.measuring.losses

    def notify(
        self, text: str, kind: news.Kind = "info", actions: Sequence[Action] = (), *, once: bool = False
    ) -> None:
        """Put one quiet line into the conversation."""
        if once:
            if text in self._told:
                return
            self._told.add(text)
        self.post(Notice(text, kind, tuple(actions)))

    def complain(self, error: StretchError, actions: Sequence[Action] = ()) -> None:
        """Say what went wrong and what to do next."""
        self.notify(str(error), "error", actions)

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Open the conversation that was asked for and load its model. Returns at once."""
        missing: StoreError | None = None
        resume = self.options.resume
        if resume == LATEST:
            latest = self.store.latest()
            resume = latest.id if latest else None
        if resume is not None:
            try:
                self.page.open(resume)
            except StoreError as error:
                missing = error
        if self.page.id and not self.model:
            self.model = self.store.conversation(self.page.id).model
        self.resolve_settings()
        self.model = self.model or self.settings.default_model
        self.resolve_settings()
        self.post(news.ConversationOpened())  # first: it empties the page
        for sentence in (*self.store.notices, *self.preferences.problems):
            self.notify(sentence, "warning")
        if missing is not None:
            self.complain(missing)
        self.parked.sweep()
        self.life.load(LoadPlan.of(self.model, self.settings))
        self._tick()

    def close(self) -> None:
        """Commit what is unfinished and end the engine."""
        if self._ticker is not None:
            self._ticker.cancel()
        self.talk.close()
        if self._desk is not None:
            self._desk.close()
        self.measuring.stop()
        parks = self.parked.leave()
        self.life.close(PARK_TIMEOUT_S if parks else CLOSE_TIMEOUT_S)
        self.talk.unsaved.save()
        with contextlib.suppress(StoreError):  # what was deleted goes at a later start
            self.store.close()

    def restart_engine(self) -> None:
        """Start the engine again, with the settings as they are now; the conversation is read again."""
        if self.talk.reading or self.talk.writing:
            self.talk.interrupt()
        self.measuring.forget()
        self.cache.engine_died()
        self.status = None
        plan = LoadPlan.of(self.model, self.settings)
        kept = self.life.plan
        self.life.restart(plan if kept is None else replace(plan, cache=kept.cache))

    def load_model(self, name: str) -> None:
        """Load another model; the conversation stays and is read again. What waits goes on waiting."""
        if self.talk.reading or self.talk.writing:
            self.talk.interrupt()
        self.model = name
        self.measuring.forget()
        if self.page.id:
            try:
                self.store.set_model(self.page.id, name)
            except StoreError as error:
                self.complain(error)
        self.resolve_settings()
        self.status = None
        self.life.load(LoadPlan.of(name, self.settings))

    def resume_download(self, name: str) -> bool:
        """Let an unfinished download go on. False if none is called ``owner/repo/file.gguf`` so."""
        if name.count("/") < 2 or not name.endswith(".gguf"):
            return False
        job = self.downloads.job(name)
        if job is None:
            return False
        if job.state in ("paused", "failed"):
            self.downloads.toggle(job)
        self.notify(f"{one_line(name)} is on its way.", actions=[Action("downloads", "/model")])
        return True

    # ---------------------------------------------------------------- talking

    def send_message(self, text: str, attachments: Sequence[Attachment] = ()) -> None:
        """Say something. Before the engine is ready, or while it writes, the message waits."""
        self.talk.say(text, attachments)

    def stop(self) -> bool:
        """Stop the reply, the prefill or the measurement. False if nothing runs."""
        return self.talk.stop() or self.measuring.stop()

    def regenerate(self, message_id: int = 0) -> None:
        """Write a reply again as a sibling of the old one."""
        self.talk.regenerate(message_id)

    def continue_reply(self, message_id: int = 0) -> None:
        """Let an unfinished reply go on from its last word."""
        self.talk.continue_reply(message_id)

    def edit(self, message_id: int, text: str, attachments: Sequence[Attachment] = ()) -> None:
        """Say a user message differently: a sibling of it, with a new reply."""
        self.talk.edit(message_id, text, attachments)

    def switch_branch(self, message_id: int, step: int) -> None:
        """Show the previous or the next sibling of a message."""
        self.talk.switch_branch(message_id, step)

    def resolve_full(self, option: protocol.FullOption | None) -> None:
        """Take one of the ways out of a full context and go on with the reply; None takes none."""
        self.talk.resolve_full(option)

    # ---------------------------------------------------------------- the cache

    def set_cache(self, type_k: str = "", type_v: str = "", n_ctx: int = -1, tail: int = KEEP_TAIL) -> None:
        """Change types, length or window of the cache; a part is left as it is by an empty name, a
        negative length, ``KEEP_TAIL``.

        Raises:
            CacheTypeError: if there is no such type.
        """
        self.cache.want(type_k, type_v, n_ctx, tail)

    def set_ctx(self, n_ctx: int) -> None:
        """Change the length of the context."""
        self.cache.want(n_ctx=n_ctx)

    def set_tail(self, tail: int) -> None:
        """Change the window of exact tokens: a number, or ``AUTO_TAIL``."""
        self.cache.want(tail=tail)

    def next_preset(self, step: int = 1) -> None:
        """Go on to the next preset that this model can use."""
        self.cache.next_preset(step)

    def undo_cache(self) -> None:
        """Go back to the cache before the last change."""
        self.cache.undo()

    def reprefill(self) -> None:
        """Read the conversation again with the present types."""
        self.cache.reprefill()

    async def preview_cache(
        self, type_k: str = "", type_v: str = "", n_ctx: int = -1, tail: int = KEEP_TAIL
    ) -> protocol.CachePreview:
        """What a change would need and gain.

        Raises:
            StretchError: if the engine refuses or is not there.
        """
        return await self.cache.preview(type_k, type_v, n_ctx, tail)

    # ---------------------------------------------------------------- conversations

    def open_conversation(self, conversation_id: int, message_id: int = 0) -> None:
        """Go to a stored conversation, with its model and its settings."""
        self.talk.interrupt()
        if conversation_id != self.page.id:
            self.parked.leave()
        try:
            self.page.open(conversation_id)
            record = self.store.conversation(conversation_id)
            if message_id and self.page.find(message_id) is None:
                self.store.switch_to(message_id)
                self.page.reload()
        except StoreError as error:
            self.complain(error)
            return
        self.post(news.ConversationOpened(message_id))
        self._become_ready_for(record.model)

    def new_conversation(self) -> None:
        """Begin an empty one. It is stored with its first message."""
        self.talk.interrupt()
        self.parked.leave()
        self.page.clear()
        self.post(news.ConversationOpened())
        self._become_ready_for("")

    def park_now(self, codec: str = "") -> bool:
        """Put the cache of this conversation away and say what came of it. False if there is none.

        Args:
            codec: as the setting ``park_codec``; empty takes that.
        """
        return self.parked.leave(asked=True, codec=codec)

    def rename(self, conversation_id: int, title: str) -> None:
        """Give a conversation another title."""
        self.store.rename(conversation_id, title)
        if conversation_id == self.page.id:
            self.page.title = title
            self.post(news.TitleChanged(title))

    def delete(self, conversation_id: int) -> bool:
        """Delete a conversation; a new one follows if it was on the page. False if there is none."""
        if not conversation_id:
            self.notify("There is nothing to delete: nothing was said yet.")
            return False
        if conversation_id == self.page.id:
            self.new_conversation()
        self.store.delete(conversation_id)
        self.parked.delete(conversation_id)
        self._deleted.append(conversation_id)
        return True

    def is_deleted(self, conversation_id: int) -> bool:
        """Whether a conversation was deleted since the start."""
        return conversation_id in self._deleted

    def restore_deleted(self) -> None:
        """Bring back what was deleted last and show it."""
        if not self._deleted:
            self.notify("Nothing was deleted since the start.")
            return
        conversation_id = self._deleted.pop()
        self.store.restore(conversation_id)
        self.open_conversation(conversation_id)

    def set_setting(self, key: str, value: object, scope: str = "conversation") -> None:
        """Change and remember one setting; None lets what holds more widely decide again.

        Raises:
            UsageError: if there is no such setting or the value does not suit it.
            StoreError: if it cannot be saved.
        """
        if scope == "conversation" and self.page.id:
            where = Scope(conversation=self.page.id)
        elif scope == "model" and self.model:
            where = Scope(model=self.model)
        else:
            where = EVERYWHERE
        if value is None:
            self.preferences.unset_for(where, key)
        else:
            self.preferences.set_for(where, key, value)
        self.overrides.pop(key, None)
        self.resolve_settings()
        self.life.set_threads(self.settings.n_threads, self.settings.adapt_threads)
        self.post(news.SettingsChanged(key))

    # ---------------------------------------------------------------- inside

    def resolve_settings(self) -> None:
        """Read again what applies to the model and the conversation."""
        self.settings = self.preferences.resolve(
            model=self.model, conversation=self.page.id, overrides=self.overrides
        )

    def _become_ready_for(self, model: str) -> None:
        """Bring model and cache to what the conversation on the page remembers."""
        self.measuring.forget()
        self.model = model or self.model
        self.resolve_settings()
        plan = self.life.plan
        if plan is None or plan.name != self.model or self.life.state == "stopped":
            self.load_model(self.model)
            return
        if self.life.loaded is None:
            self.life.plan = LoadPlan.of(self.model, self.settings)
            return
        self.life.link.send(protocol.Forget(self.life.link.next_id()))
        s = self.settings
        self.life.set_threads(s.n_threads, s.adapt_threads)
        self.cache.want(s.type_k, s.type_v, s.n_ctx or -1, s.tail, remember=False)
        self.parked.enter()

    def announce_phase(self) -> None:
        """Say what the engine does now."""
        self.post(news.PhaseChanged(self.phase, self.life.fraction))

    def _on_trouble(self, error: StretchError) -> None:
        self.complain(error, (Action("another model", "/model"), Action("try again", "/restart")))

    def _on_event(self, event: protocol.Event) -> None:
        try:
            self._hear(event)
        except StretchError as error:
            self.complain(error)

    def _hear(self, event: protocol.Event) -> None:
        match event:
            case protocol.Loaded():
                self._on_loaded(event)
            case protocol.Status() if self.loaded is None:
                pass  # of the model before
            case protocol.Status():
                self.status = event
                self.post(news.StatusChanged(event))
            case protocol.CacheChanged():
                self.cache.changed(event)
            case protocol.Parked():
                self.parked.parked(event)
            case protocol.Resumed():
                self.parked.resumed(event)
            case protocol.Died():
                self._on_died(event)
            case protocol.Failed():
                heard = self.talk.on_failed(event) or self.cache.failed(event) or self.parked.failed(event)
                if not heard:
                    self.notify(f"{event.message} {event.hint}".strip(), "error")
            case _:
                self.talk.on_event(event)

    def _on_loaded(self, loaded: protocol.Loaded) -> None:
        self.cache.loaded(loaded)
        self.life.keep(self.cache.now)
        self.post(news.ModelChanged(loaded))
        if loaded.warning:
            self.notify(loaded.warning, "warning", [Action("another cache", "/kv")])
        for note in loaded.model.notes:
            self.notify(note, once=True)
        if self.model in DEMONSTRATIONS and not self.page.messages and not self.store.count():
            text = (
                "This small model comes with Stretch to try things out. It knows little and makes things up."
            )
            self.notify(text, actions=[Action("choose another", "/model")], once=True)
        self.parked.enter()
        self.ask_figures()
        self.talk.engine_is_ready()
        self.announce_phase()

    def _on_died(self, died: protocol.Died) -> None:
        switching = self.cache.engine_died()
        kept = self.talk.engine_died()
        again = "It was started again" if self.life.state == "restarting" else "It was not started again"
        text = f"{died.sentence} {again}; the conversation is safe."
        if switching:
            text += " The cache keeps its earlier setting."
        actions = [Action("go on with the reply", "/continue")] if kept else []
        self.notify(text, "error", actions)

    def ask_figures(self) -> None:
        """Ask the engine for fresh figures."""
        if self.life.loaded is not None:
            self.life.link.send(protocol.Ask(self.life.link.next_id()))

    def _tick(self) -> None:
        if self.talk.unsaved.save():
            self.notify("Everything is saved now.", "good")
        if self.phase == "ready":
            self.ask_figures()
        self._ticker = asyncio.get_running_loop().call_later(ASK_EVERY_S, self._tick)
