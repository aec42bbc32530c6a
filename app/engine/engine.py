"""The engine: does one command after the other and answers each with its closing event."""

from __future__ import annotations

import threading
from time import perf_counter

from app.engine.budget import Process, available
from app.engine.full import check_room
from app.engine.inbox import URGENT, Inbox, Kinds
from app.engine.log import EngineLog
from app.engine.native import Native
from app.engine.outbox import Outbox
from app.engine.protocol import (
    Ask,
    CacheChanged,
    CachePreview,
    Command,
    CountTokens,
    Failed,
    Forget,
    Generate,
    Load,
    Loaded,
    LoadProgress,
    MeasureLoss,
    MemoryFigures,
    Park,
    PruneCache,
    Resume,
    SetCache,
    SetThreads,
    Shutdown,
    Status,
    TokenCount,
    UndoCache,
)
from app.engine.session import LoadPlan, Session, judge, open_session
from models.memory import memory
from quantize.cache_types import CachePair, cache_type
from quantize.errors import EngineError, StretchError
from quantize.lab.setting import Setting

STATUS_SECONDS = 0.5
ASK_ONLY: Kinds = (Ask,)
COMPUTING: Kinds = (Load, Generate, SetCache, UndoCache, PruneCache)


class Engine:
    """Owns the model, the context and everything that talks to llama.cpp. Main thread only."""

    def __init__(self, inbox: Inbox, outbox: Outbox, log: EngineLog, native: Native) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._log = log
        self._native = native
        self._process = Process()
        self._session: Session | None = None
        self._busy = threading.Event()
        self._pause = threading.Event()
        threading.Thread(target=self._tick, name="status", daemon=True).start()

    def run(self) -> None:
        """Do commands until ``Shutdown``."""
        while not isinstance(command := self._next(), Shutdown):
            threads = self._session.threads if self._session is not None else None
            if isinstance(command, COMPUTING):
                self._busy.set()
                if threads is not None:
                    threads.begin()
            elif threads is not None:
                threads.rest()
            try:
                self._do(command)
            finally:
                self._inbox.done()
            preview = isinstance(command, SetCache | PruneCache) and command.preview
            if isinstance(command, COMPUTING) and not preview and self._session is not None:
                self._session.own.touched()
            if self._busy.is_set() and self._session is not None:
                self._session.threads.end()
            if self._busy.is_set():
                self._busy.clear()
                self._outbox.send(self._status(0))
        self._close()

    def _next(self) -> Command:
        """The next command. Until it arrives, what the cache settings cost is measured."""
        while (session := self._session) is not None:
            pause = session.own.pause(session.cache.settings)
            if pause is None or self._inbox.wait(pause):
                break
            if not self._inbox.calm(self._answer):
                break
            try:
                news = session.own.step(session.cache.settings)
            finally:
                self._inbox.engaged()
            if news:
                self._outbox.send(self._status(0))
        return self._inbox.next()

    def _answer(self, command: Ask) -> None:
        self._outbox.send(self._status(command.id))

    def _do(self, command: Command) -> None:
        """Do one command; whatever goes wrong is its closing event."""
        try:
            match command:
                case Load():
                    self._load(command)
                case Generate():
                    self._generate(command)
                case SetCache():
                    self._outbox.send(self._set_cache(command))
                case PruneCache():
                    self._require().own.release()
                    pruner = self._require().pruner
                    self._outbox.send(pruner.preview(command) if command.preview else pruner.prune(command))
                case UndoCache():
                    self._require().own.release()
                    self._outbox.send(self._require().switcher.undo(command.id))
                case SetThreads():
                    self._require().set_threads(command.n_threads, adapt=command.adapt_threads)
                    self._outbox.send(self._status(command.id))
                case MeasureLoss():
                    self._require().own.repeat()
                    self._outbox.send(self._status(command.id))
                case Ask():
                    self._outbox.send(self._status(command.id))
                case CountTokens():
                    self._outbox.send(self._count(command))
                case Forget():
                    if self._session is not None:
                        self._session.conversation.forget()
                        self._session.switcher.history.forget_states()
                    self._outbox.send(self._status(command.id))
                case Park():
                    session = self._require()
                    session.parking.park(command, session.cache)
                case Resume():
                    session = self._require()
                    session.switcher.history.forget_states()
                    self._outbox.send(session.parking.resume(command, session.cache))
                case _:
                    raise EngineError(f"{type(command).__name__} is not understood.")
        except StretchError as error:
            self._log.write(f"failed: {type(error).__name__}: {error}")
            self._outbox.send(Failed(command.id, type(error).__name__, error.message, error.hint))

    def _poll(self, kinds: Kinds = URGENT) -> None:
        """Between two tokens: do what may be done meanwhile."""
        if self._session is not None and self._session.switcher.active:
            kinds = ASK_ONLY
        while (command := self._inbox.urgent(kinds)) is not None:
            self._do(command)

    def _require(self) -> Session:
        if self._session is None:
            raise EngineError("No model is loaded.", "Choose a model first.")
        return self._session

    # ------------------------------------------------------------------ commands

    def _set_cache(self, command: SetCache) -> CachePreview | CacheChanged:
        session = self._require()
        if not command.preview:
            session.own.release()
            return session.switcher.change(command)
        preview = session.switcher.preview(command)
        if not preview.loss.measured:
            pair = CachePair(cache_type(preview.type_k), cache_type(preview.type_v))
            session.own.want(Setting(pair, preview.tail))
        return preview

    def _load(self, command: Load) -> None:
        began = perf_counter()
        plan = judge(command, self._process, self._native)
        old = self._session
        if old is not None:
            old.own.close()
        if old is not None and not self._fits_beside(plan, old):
            self._close()
        try:
            session = self._open(plan)
        except StretchError:
            if old is not None and self._session is None:
                self._inbox.ignore_stop()
                self._session = self._open(judge(old.load_again(), self._process, self._native))
            raise
        self._close()
        self._session = session
        s = session.cache.settings
        self._outbox.send(
            Loaded(
                command.id,
                session.info,
                s.type_k,
                s.type_v,
                s.tail,
                s.n_ctx,
                perf_counter() - began,
                s.tail_wish,
                session.budget.warning(s),
            )
        )

    def _open(self, plan: LoadPlan) -> Session:
        def progress(fraction: float) -> bool:
            self._outbox.send(LoadProgress(plan.command.id, fraction))
            self._poll(ASK_ONLY)
            return not self._inbox.stopped

        return open_session(plan, self._inbox, self._log, self._outbox.send, self._poll, progress)

    def _fits_beside(self, plan: LoadPlan, old: Session) -> bool:
        both = plan.budget.process_bytes(plan.settings) + old.budget.process_bytes(old.cache.settings)
        return both <= plan.budget.total()

    def _generate(self, command: Generate) -> None:
        session = self._require()
        if not command.turns:
            raise EngineError("The conversation is empty.", "Write a message first.")
        prompt = session.loaded.prompts.make(command.turns, command.prefix, lambda: self._inbox.stopped)
        full = check_room(command, prompt, session)
        if full is not None:
            self._outbox.send(full)
            return
        session.parking.find(prompt.tokens, session.cache)
        self._outbox.send(
            session.conversation.reply(command.id, prompt, command.sampling, session.loaded.stop_strings)
        )

    def _count(self, command: CountTokens) -> TokenCount:
        prompts = self._require().loaded.prompts
        if not command.turns:
            return TokenCount(command.id, prompts.count(command.text))
        tokens = prompts.make(command.turns).tokens
        return TokenCount(command.id, len(tokens), tuple(tokens) if command.want_tokens else ())

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    # ------------------------------------------------------------------ figures

    def _tick(self) -> None:
        """In a thread: the figures twice per second while something runs."""
        while self._busy.wait():
            if self._session is not None:
                self._outbox.send(self._status(0))
            self._pause.wait(STATUS_SECONDS)

    def _status(self, id: int) -> Status:
        """The figures of now, from plain numbers: safe while llama.cpp computes in another thread."""
        session = self._session
        if session is None:
            figures = MemoryFigures(
                overhead=self._process.rss(),
                rss=self._process.rss(),
                available=available(self._process),
                total=memory().total,
            )
            return Status(id, 0, 0, "", "", 0, figures, (), 0.0, 0.0, 0.0, False)
        settings, speeds = session.cache.settings, session.conversation.speeds
        return Status(
            id,
            session.conversation.n_used,
            settings.n_ctx,
            settings.type_k,
            settings.type_v,
            settings.tail,
            session.budget.figures(session.cache),
            session.budget.rows(settings),
            speeds.prefill_tps,
            speeds.generate_tps,
            speeds.first_token_s,
            len(session.switcher.history) > 0,
            session.conversation.n_gone,
            session.threads.now,
            session.threads.most,
            session.own.fraction(settings),
            session.threads.most_reading,
            session.threads.why,
        )
