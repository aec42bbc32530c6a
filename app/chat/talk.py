"""Who says what when: messages, the reply under way, branches, and what waits for the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.chat import messages as news
from app.chat.messages import Action
from app.chat.reply import PartialSaver, Reply, figures_of
from app.chat.unsaved import Unsaved
from app.engine import protocol
from app.store.records import Attachment, Figures, Message, State
from quantize.errors import StoreError

if TYPE_CHECKING:
    from app.chat.session import Session

MOST_TRIES = 3
"""A reply whose engine died before the first word is begun again, this many times in all."""


class Talk:
    """The session's part about talking: at most one reply is under way."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._saver = PartialSaver(session.store)
        self.unsaved = Unsaved(session.store)
        self.reply: Reply | None = None
        self.full: protocol.ContextFull | None = None
        """The choice that the user has to make before the reply goes on."""
        self._waiting: list[tuple[str, tuple[Attachment, ...]]] = []

    @property
    def reading(self) -> bool:
        """Whether a prompt is being read."""
        return self.reply is not None and bool(self.reply.command) and not self.reply.writing

    @property
    def writing(self) -> bool:
        """Whether words of a reply arrive."""
        return self.reply is not None and bool(self.reply.command) and self.reply.writing

    # ---------------------------------------------------------------- what the user does

    def say(self, text: str, attachments: Sequence[Attachment]) -> None:
        """Add a message and begin its reply; while another reply is under way it waits."""
        if self.reply is not None:
            self._waiting.append((text, tuple(attachments)))
            self._tell_waiting()
            return
        try:
            message = self._session.page.say(text, attachments, self._session.model)
        except StoreError as error:
            self._session.complain(error)
            self._session.post(news.NotSaid(text))
            return
        self._post_added(message)
        self._begin_reply()

    def stop(self) -> bool:
        """Stop the reply or the prefill; give up a choice. What waits comes next."""
        reply = self.reply
        if reply is None:
            return False
        if self.full is not None or not reply.command:
            self._end_unwritten(reply)
            return True
        if reply.stopping:
            self._session.notify(
                "The engine was told to stop and has not answered yet.",
                actions=[Action("start it again", "/restart")],
                once=True,
            )
            return True
        reply.stopping = True
        self._session.life.link.send(protocol.Stop(self._session.life.link.next_id()))
        return True

    def regenerate(self, message_id: int = 0) -> None:
        """Write a reply again as a sibling of the old one; an empty one that was left is filled instead."""
        page = self._session.page
        old = page.find(message_id) if message_id else next(reversed(page.messages), None)
        if old is None:
            self._session.notify("There is no reply to write again yet.")
            return
        self.interrupt()
        if old.state == "stopped" and not old.content and page.messages[-1].id == old.id:
            self.continue_reply(old.id)
            return
        # The page may not have it any more: what is interrupted before its first word is gone.
        self._session.store.set_leaf(page.id, old.parent if old.role == "assistant" else old.id)
        page.reload()
        self._session.post(news.ConversationOpened())
        self._begin_reply()

    def continue_reply(self, message_id: int = 0) -> None:
        """Let an unfinished reply go on from its last word."""
        page = self._session.page
        message = page.find(message_id) if message_id else page.last("assistant")
        if message is None or self.reply is not None or message.id != page.messages[-1].id:
            self._session.notify("There is no unfinished reply to go on with.")
            return
        self.reply = Reply(message.id, prefix=message.content, text=message.content)
        self._session.post(news.TurnUpdated(message.id))
        self._generate()

    def edit(self, message_id: int, text: str, attachments: Sequence[Attachment]) -> None:
        """Say a user message differently: a sibling of it, with a new reply."""
        self.interrupt()
        page = self._session.page
        self._session.store.add_edit(message_id, text, attachments=attachments)
        page.reload()
        self._session.post(news.ConversationOpened())
        self._begin_reply()

    def switch_branch(self, message_id: int, step: int) -> None:
        """Show the previous or the next sibling of a message."""
        siblings = [m.id for m in self._session.store.siblings(message_id)]
        place = siblings.index(message_id) + step
        if not 0 <= place < len(siblings):
            return
        self.interrupt()
        self._session.store.switch_to(siblings[place])
        self._session.page.reload()
        self._session.post(news.ConversationOpened(siblings[place]))

    def resolve_full(self, option: protocol.FullOption | None) -> None:
        """Take a way out of a full context, then try the reply again."""
        reply, self.full = self.reply, None
        if reply is None:
            return
        if option is None:
            self._end_unwritten(reply)
            return
        if option.action == "drop":
            try:
                self._session.page.drop(option.n_drop, reply.message_id)
            except StoreError as error:  # it holds until the program ends
                self._session.complain(error)
            self._session.post(news.ConversationOpened())
        elif option.action == "prune":
            self._session.prune.make_room(option, reply.message_id)
        else:
            self._session.cache.want(option.type_k, option.type_v, option.n_ctx or -1, option.tail)
        self._generate()

    def interrupt(self) -> None:
        """End the reply under way now, keeping what is written: something else is wanted."""
        self._waiting.clear()
        self._tell_waiting()
        reply = self.reply
        if reply is None:
            return
        if reply.command and self._session.loaded is not None:
            self._session.life.link.send(protocol.Stop(self._session.life.link.next_id()))
        self._end_unwritten(reply)

    def leave(self) -> None:
        """The person leaves: end the reply and store what waits, to be answered another time."""
        waiting = tuple(self._waiting)
        self.interrupt()
        for text, attachments in waiting:
            try:
                self._session.page.say(text, attachments, self._session.model)
            except StoreError as error:
                self._session.complain(error)
                return

    def close(self) -> None:
        """Commit what is unfinished."""
        reply, self.reply = self.reply, None
        self._saver.drop()
        if reply is not None:
            self._keep_or_remove(reply)

    # ---------------------------------------------------------------- what the engine does

    def engine_is_ready(self) -> None:
        """A model is there: make the reply that waits."""
        if self.reply is not None and self.full is None:
            self._generate()

    def engine_died(self) -> bool:
        """The engine is gone. Whether a reply with words in it was interrupted."""
        reply, self.full = self.reply, None
        if reply is None:
            return False
        if not reply.writing and reply.n_lost + 1 < MOST_TRIES:
            reply.n_lost += 1
            reply.command = 0
            self._session.post(news.TurnUpdated(reply.message_id))
            return False
        self._end(reply, reply.text, "died")
        return reply.writing

    def on_failed(self, failed: protocol.Failed) -> bool:
        """A reply could not be made. False if the failure belongs to something else."""
        reply = self.reply
        if reply is None or not failed.id or failed.id != reply.command:
            return False
        if reply.stopping:
            self._end(reply, reply.text, "stopped")
            return True
        self._session.notify(
            f"{failed.message} {failed.hint}".strip(), "error", [Action("try again", "/regenerate")]
        )
        self._end(reply, reply.text, "failed")
        return True

    def on_event(self, event: protocol.Event) -> None:
        """Progress of the reply under way; what belongs to an earlier one is ignored."""
        reply = self.reply
        if reply is None or event.id != reply.command or not reply.command:
            return
        match event:
            case protocol.PrefillProgress():
                self._session.post(news.ReadingProgress(reply.message_id, event))
            case protocol.TextChunk():
                first = not reply.writing
                reply.text += event.text
                self._saver.grew(reply)
                self._session.post(news.ReplyText(reply.message_id, event.text, event.tokens_per_second))
                if first:
                    self._session.announce_phase()
            case protocol.ContextFull():
                self._context_full(reply, event)
            case protocol.Finished():
                self._finished(reply, event)

    # ---------------------------------------------------------------- inside

    def _begin_reply(self) -> None:
        try:
            message = self._session.page.begin_reply()
        except StoreError as error:
            self._session.complain(error, [Action("try again", "/regenerate")])
            return
        self.reply = Reply(message.id)
        self._post_added(message)
        self._generate()

    def _generate(self) -> None:
        session, reply = self._session, self.reply
        if reply is None or session.loaded is None:
            session.announce_phase()
            return
        reply.prefix = reply.text
        reply.command = session.life.link.next_id()
        turns = session.page.prompt(reply.message_id, session.settings.system_prompt)
        session.life.link.send(
            protocol.Generate(reply.command, turns, session.settings.sampling, reply.prefix)
        )
        session.announce_phase()

    def _finished(self, reply: Reply, finished: protocol.Finished) -> None:
        loaded = self._session.loaded
        figures = figures_of(finished, loaded) if loaded is not None else Figures()
        reply.text = reply.finished_text(finished)
        if finished.reason == "context":
            # Asking for the rest brings the choice with its costs.
            self._saver.save()
            self._generate()
            return
        self._end(reply, reply.text, finished.reason, figures)

    def _context_full(self, reply: Reply, full: protocol.ContextFull) -> None:
        policy = self._session.settings.on_full
        if policy == "prune" and self._session.prune.gave_up(reply.message_id):
            policy = "ask"
        named = next((o for o in full.options if o.action == policy), None)
        reply.command = 0
        if named is not None:
            self._session.notify(f"The context is full: {named.sentence}", "warning")
            self.resolve_full(named)
        elif policy == "stop":
            self._session.notify("The context is full.", "warning")
            self._end_unwritten(reply)
        else:
            self.full = full
            self._session.post(news.SpaceRanOut(full))
        self._session.announce_phase()

    def _end_unwritten(self, reply: Reply) -> None:
        self.full = None
        self._end(reply, reply.text, "stopped")

    def _end(self, reply: Reply, text: str, reason: str, figures: Figures | None = None) -> None:
        """The reply is over: commit it, say so, and go on with what waits."""
        session = self._session
        self.reply = None
        self._saver.drop()
        reply.text = text
        self._keep_or_remove(reply, reason, figures)
        session.post(news.ReplyDone(reply.message_id, reason))
        session.announce_phase()
        session.ask_figures()
        if self._waiting and reason not in ("failed",):
            text, attachments = self._waiting.pop(0)
            self._tell_waiting()
            self.say(text, attachments)

    def _keep_or_remove(self, reply: Reply, reason: str = "stopped", figures: Figures | None = None) -> None:
        """Commit the text; a reply without a word leaves no trace."""
        session = self._session
        complete = reason in ("end", "length")
        if reply.text or complete:
            state: State = "complete" if complete else "stopped"
            try:
                self.unsaved.finish(reply.message_id, reply.text, state, figures)
            except StoreError as error:
                session.page.keep(reply.message_id, reply.text, state, figures)
                session.complain(error)
            else:
                session.page.refresh(reply.message_id)
            return
        try:
            session.store.delete_branch(reply.message_id)
            session.page.reload()
        except StoreError as error:
            session.page.forget(reply.message_id)
            session.complain(error)

    def _post_added(self, message: Message) -> None:
        self._session.post(news.TurnAdded(message.id))

    def _tell_waiting(self) -> None:
        texts = tuple(text for text, _ in self._waiting)
        self._session.post(news.QueueChanged(len(texts), texts))
