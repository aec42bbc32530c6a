"""The engine: does one command after the other and answers each with its closing event."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from app.engine import loader
from app.engine.conversation import Conversation
from app.engine.figures import Figures
from app.engine.full import check_room
from app.engine.inbox import Inbox
from app.engine.loader import LoadedModel
from app.engine.log import EngineLog
from app.engine.outbox import Outbox
from app.engine.protocol import (
    Ask,
    Command,
    CountTokens,
    Failed,
    Forget,
    Generate,
    Load,
    Loaded,
    LoadProgress,
    ModelInfo,
    SetCache,
    Shutdown,
    Status,
    TokenCount,
    UndoCache,
)
from app.engine.threads import default_threads
from quantize.cache_types import cache_type
from quantize.errors import EngineError, StretchError
from quantize.llama import Context

STATUS_SECONDS = 0.5
DEFAULT_N_CTX = 8192


@dataclass
class Session:
    """A loaded model with its present cache."""

    loaded: LoadedModel
    info: ModelInfo
    conversation: Conversation
    type_k: str
    type_v: str
    tail: int
    n_threads: int


class Engine:
    """Owns the model, the context and everything that talks to llama.cpp. Main thread only."""

    def __init__(self, inbox: Inbox, outbox: Outbox, log: EngineLog) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._log = log
        self._figures = Figures()
        self._session: Session | None = None
        self._busy = threading.Event()
        threading.Thread(target=self._tick, name="status", daemon=True).start()

    def run(self) -> None:
        """Do commands until ``Shutdown``."""
        while True:
            command = self._inbox.next()
            if isinstance(command, Shutdown):
                self._close()
                return
            busy = isinstance(command, Load | Generate | SetCache | UndoCache)
            if busy:
                self._busy.set()
            try:
                self._do(command)
            except StretchError as error:
                self._fail(command.id, error)
            finally:
                self._busy.clear()
                self._inbox.done()
            if busy and self._session is not None:
                self._outbox.send(self._status(0))

    def _do(self, command: Command) -> None:
        match command:
            case Load():
                self._load(command)
            case Generate():
                self._generate(command)
            case Ask():
                self._outbox.send(self._status(command.id))
            case Forget():
                if self._session is not None:
                    self._session.conversation.forget()
                self._outbox.send(self._status(command.id))
            case CountTokens():
                self._outbox.send(TokenCount(command.id, self._count(command)))
            case _:
                raise EngineError(f"{type(command).__name__} is not understood.")

    def _fail(self, id: int, error: StretchError) -> None:
        self._log.write(f"failed: {type(error).__name__}: {error}")
        self._outbox.send(Failed(id, type(error).__name__, error.message, error.hint))

    def _poll(self) -> None:
        """Between two tokens: do what may be done meanwhile."""
        while (command := self._inbox.urgent()) is not None:
            try:
                self._do(command)
            except StretchError as error:
                self._fail(command.id, error)

    def _require(self) -> Session:
        if self._session is None:
            raise EngineError("No model is loaded.", "Choose a model first.")
        return self._session

    # ------------------------------------------------------------------ commands

    def _load(self, command: Load) -> None:
        began = perf_counter()
        n_threads = command.n_threads or default_threads()
        self._close()

        def progress(fraction: float) -> bool:
            self._outbox.send(LoadProgress(command.id, fraction))
            self._poll()
            return not self._inbox.stopped

        loaded = loader.load(
            Path(command.path),
            self._log,
            repack=command.repack,
            n_gpu_layers=command.n_gpu_layers,
            on_progress=progress,
        )
        context: Context | None = None
        try:
            import llama_cpp.llama_cpp as L

            n_ctx = command.n_ctx or min(DEFAULT_N_CTX, L.llama_model_n_ctx_train(loaded.model.handle))
            self._log.begin_context()
            type_k, type_v = cache_type(command.type_k), cache_type(command.type_v)
            context = Context(
                loaded.model,
                n_ctx=n_ctx,
                type_k=type_k.variants[0].id,
                type_v=type_v.variants[0].id,
                n_threads=n_threads,
            )
            info = loader.describe(loaded, loader.first_decode(context, loaded.vocabulary))
        except BaseException:
            if context is not None:
                context.close()
            loaded.close()
            raise
        conversation = Conversation(
            context,
            loaded.vocabulary,
            loaded.prompts,
            self._inbox,
            self._outbox.send,
            self._poll,
            n_layer=info.n_layer,
            n_swa=info.n_swa,
        )
        self._session = Session(loaded, info, conversation, type_k.name, type_v.name, command.tail, n_threads)
        self._outbox.send(
            Loaded(
                command.id,
                info,
                type_k.name,
                type_v.name,
                command.tail,
                context.n_ctx,
                perf_counter() - began,
            )
        )

    def _generate(self, command: Generate) -> None:
        session = self._require()
        prompt = session.loaded.prompts.make(command.turns, command.prefix, lambda: self._inbox.stopped)
        full = check_room(command, prompt, session.conversation.n_ctx)
        if full is not None:
            self._outbox.send(full)
            return
        finished = session.conversation.reply(
            command.id, prompt, command.sampling, session.loaded.stop_strings
        )
        self._outbox.send(finished)

    def _count(self, command: CountTokens) -> int:
        prompts = self._require().loaded.prompts
        return len(prompts.make(command.turns).tokens) if command.turns else prompts.count(command.text)

    def _close(self) -> None:
        if self._session is not None:
            self._session.conversation.context.close()
            self._session.loaded.close()
            self._session = None

    # ------------------------------------------------------------------ figures

    def _tick(self) -> None:
        while True:
            self._busy.wait()
            if self._session is not None:
                self._outbox.send(self._status(0))
            threading.Event().wait(STATUS_SECONDS)

    def _status(self, id: int) -> Status:
        session = self._session
        if session is None:
            return Status(id, 0, 0, "", "", 0, self._figures.memory(0, 0, 0, 0), (), 0, 0, 0, False)
        conversation = session.conversation
        memory = self._figures.memory(
            sum(size for _, _, size in self._log.caches),
            self._log.compute_bytes,
            self._log.repack_bytes,
            session.info.file_bytes,
        )
        speeds = conversation.speeds
        return Status(
            id,
            conversation.n_used,
            conversation.n_ctx,
            session.type_k,
            session.type_v,
            session.tail,
            memory,
            (),
            speeds.prefill_tps,
            speeds.generate_tps,
            speeds.first_token_s,
            False,
        )
