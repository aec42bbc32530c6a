"""What the session says, handed to the widgets that show it."""

from __future__ import annotations

from pathlib import Path

from textual.screen import Screen

from app.chat import messages as news
from app.chat.composer import Composer
from app.chat.format import clip, setting
from app.chat.guarded import Guarded
from app.chat.header_line import HeaderLine
from app.chat.messages import Action, Notice, Phase
from app.chat.panel.memory_panel import MemoryPanel
from app.chat.panel.panel_line import PanelLine
from app.chat.screens.ask import Choice, Choose
from app.chat.session import Session
from app.chat.transcript.one_line import OneLine
from app.chat.transcript.transcript import Transcript
from app.plain_text import one_line
from quantize.errors import StretchError

WAITS: dict[Phase, str] = {
    "starting": "waits for the engine to start",
    "loading": "waits for the model",
    "restarting": "waits for the engine to come back",
    "stopped": "waits for a model; esc takes the question back",
    "switching": "waits for the cache to change",
    "reading": "reading",
}


class NewsBoard(Guarded, Screen[None]):
    """The half of the chat screen that listens to the session. Handlers only pass things on."""

    header: HeaderLine
    transcript: Transcript
    composer: Composer
    panel: MemoryPanel
    panel_line: PanelLine
    waiting: OneLine

    @property
    def session(self) -> Session:
        """The controller."""
        raise AttributeError("session")

    def complain(self, error: StretchError) -> None:
        self.session.complain(error)

    def show_keys(self) -> None:
        """Show the keys that matter now."""

    # ---------------------------------------------------------------- the engine

    def on_phase_changed(self, message: news.PhaseChanged) -> None:
        if self.session.loaded is None:
            self.header.show_model(Path(self.session.model).name.removesuffix(".gguf"))
        for shows in (self.header, self.panel, self.panel_line):
            shows.show_phase(message.phase, message.fraction)
        self._show_waiting(message.phase, message.fraction)
        self.show_keys()

    def _show_waiting(self, phase: Phase, fraction: float = 0.0) -> None:
        """Say in the place of the reply what it waits for."""
        reply = self.session.talk.reply
        if reply is None or reply.writing or self.session.talk.full is not None or phase not in WAITS:
            return
        why = WAITS[phase]
        if phase == "loading" and fraction:
            why += f" ({fraction:.0%})"
        self.transcript.show_waiting(reply.message_id, why)

    def on_model_changed(self, message: news.ModelChanged) -> None:
        loaded = message.loaded
        self.header.show_model(loaded.model.name)
        self.header.show_cache(loaded.type_k, loaded.type_v, loaded.tail, loaded.n_ctx)
        self.transcript.show_speaker(loaded.model.name)
        self.panel.show_loaded(loaded)
        self.panel_line.show_loaded(loaded)

    def on_status_changed(self, message: news.StatusChanged) -> None:
        status = message.status
        self.header.show_cache(status.type_k, status.type_v, status.tail, status.n_ctx)
        self.header.show_rate(status.generate_tps)
        self.panel.show_status(status)
        self.panel_line.show_status(status)

    def on_losses_changed(self, message: news.LossesChanged) -> None:
        self.panel.show_losses(message.losses)
        self.panel_line.show_losses(message.losses)
        self.show_keys()

    def on_loss_question(self, message: news.LossQuestion) -> None:
        def answered(key: str | None) -> None:
            if key == "yes":
                self.session.cache.accept(message.wanted)

        wanted = message.wanted
        name = setting(wanted.type_k, wanted.type_v, max(wanted.tail, 0))
        no = Choice("no", "no", "the cache stays as it is")
        yes = Choice("yes", "yes", f"{name} all the same")
        self.app.push_screen(Choose(message.text, (no, yes)), answered)

    async def on_cache_switched(self, message: news.CacheSwitched) -> None:
        changed = message.changed
        self.header.show_cache(changed.type_k, changed.type_v, changed.tail, changed.n_ctx)
        self.panel.show_switch(changed)
        self.panel_line.show_switch(changed)
        text = changed.sentence
        actions = [Action("undo", "/undo")] if changed.can_undo else []
        if message.went_up and self.session.page.messages:
            actions.append(Action("read again, exactly", "/reprefill"))
        await self.transcript.add_notice(Notice(text, "good", tuple(actions)))

    # ---------------------------------------------------------------- the conversation

    async def on_notice(self, message: Notice) -> None:
        await self.transcript.add_notice(message)

    async def on_conversation_opened(self, message: news.ConversationOpened) -> None:
        page = self.session.page
        self.transcript.thinking = self.session.settings.thinking
        self.transcript.keys = self.session.settings.keys
        await self.transcript.show(page.messages, seen_from=page.seen_from, scroll_to=message.scroll_to)
        self.composer.load_history([m.content for m in page.messages if m.role == "user"])
        self._show_waiting(self.session.phase)

    async def on_turn_added(self, message: news.TurnAdded) -> None:
        added = self.session.page.find(message.message_id)
        if added is not None:
            await self.transcript.add_message(added)
            self._show_waiting(self.session.phase)

    def on_not_said(self, message: news.NotSaid) -> None:
        self.composer.put("\n".join(text for text in (message.text, self.composer.text) if text))

    async def on_turn_updated(self, message: news.TurnUpdated) -> None:
        await self.transcript.remove_choice()
        updated = self.session.page.find(message.message_id)
        if updated is not None:
            await self.transcript.update_message(updated)
            self._show_waiting(self.session.phase)

    def on_reading_progress(self, message: news.ReadingProgress) -> None:
        self.transcript.show_progress(message.message_id, message.progress)

    def on_reply_text(self, message: news.ReplyText) -> None:
        self.transcript.append(message.message_id, message.text)

    async def on_reply_done(self, message: news.ReplyDone) -> None:
        await self.transcript.remove_choice()
        done = self.session.page.find(message.message_id)
        if done is None:
            await self.transcript.remove_message(message.message_id)
        else:
            await self.transcript.update_message(done)
        self.show_keys()

    async def on_space_ran_out(self, message: news.SpaceRanOut) -> None:
        choice = await self.transcript.show_choice(message.full)
        if self.composer.has_focus and not self.composer.text:
            choice.focus(scroll_visible=False)

    def on_queue_changed(self, message: news.QueueChanged) -> None:
        text = ""
        if message.texts:
            text = f"next: {clip(one_line(message.texts[0]), 60)}"
            if message.n_waiting > 1:
                text += f" and {message.n_waiting - 1} more"
        self.waiting.show(text)
        self.waiting.display = bool(text)
