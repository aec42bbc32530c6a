"""A loaded model with everything that belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from app.engine import loader, words
from app.engine.budget import Budget, Process
from app.engine.cache import Cache, CacheMaker, CacheSettings, longest_context
from app.engine.conversation import Conversation
from app.engine.inbox import Inbox
from app.engine.loader import LoadedModel
from app.engine.log import EngineLog
from app.engine.native import NO_NATIVE, Native
from app.engine.pace import Pace
from app.engine.parking import Parking
from app.engine.protocol import Event, Load, ModelInfo
from app.engine.pruner import Pruner
from app.engine.self_measure import SelfMeasure
from app.engine.switch import Switcher
from app.engine.thread_book import ThreadBook
from app.engine.thread_choice import ThreadChoice
from app.engine.threads import Threads
from app.engine.window import WindowMarks
from app.paths import cache_dir, calibrations_dir
from models.exact import exact_planner
from models.header import Header
from models.model_losses import ModelLosses, losses_of, never_centred
from models.plan import Planner
from models.splits import read_model
from quantize.cache_types import AUTO_TAIL, PRESETS, CachePair, cache_type
from quantize.centring_store import CentringStore
from quantize.errors import BreaksModelError, EngineError
from quantize.native import attention
from quantize.prune.prune import obstacle

NO_LAYOUT = "The layout of this model's saved state is not known."


@dataclass(frozen=True)
class LoadPlan:
    """A load that was judged by the file's header and found possible."""

    command: Load
    settings: CacheSettings
    budget: Budget
    header: Header
    losses: ModelLosses
    notes: tuple[str, ...] = ()
    """Sentences for the user, if the load is not quite what was asked for."""


@dataclass
class Session:
    """A model, its conversation and its cache."""

    load: Load
    loaded: LoadedModel
    info: ModelInfo
    conversation: Conversation
    switcher: Switcher
    pruner: Pruner
    budget: Budget
    parking: Parking
    threads: Threads
    own: SelfMeasure
    measured: ThreadChoice
    """What is computed with where no number is set."""

    @property
    def cache(self) -> Cache:
        """The present cache."""
        return self.switcher.cache

    def close(self) -> None:
        """Free everything, after the file that is being written is complete."""
        self.parking.wait()
        self.own.close()
        self.cache.close()
        self.loaded.close()

    def load_again(self) -> Load:
        """The command that would bring this session back, empty, with its present cache."""
        s = self.cache.settings
        return replace(
            self.load, type_k=s.type_k, type_v=s.type_v, n_ctx=s.n_ctx, tail=s.tail_wish, accept_loss=True
        )

    def set_threads(self, n_threads: int, *, adapt: bool) -> None:
        """Compute with other threads from the next token or batch on."""
        self.load = replace(self.load, n_threads=n_threads, adapt_threads=adapt)
        self.threads.limit(_chosen(n_threads, self.measured), adapt=adapt)
        self.conversation.pace.n_threads = self.threads.most_reading


def _chosen(n_threads: int, measured: ThreadChoice) -> ThreadChoice:
    """What was set, or what was measured."""
    if not n_threads:
        return measured
    return ThreadChoice(n_threads, n_threads, "Set in the settings (n_threads).")


def judge(command: Load, process: Process, native: Native = NO_NATIVE) -> LoadPlan:
    """Read the header and decide on the cache. Allocates nothing.

    Raises:
        ModelFileError: if the file cannot be read or is not for this engine.
        CacheTypeError: if the model cannot have these cache types.
        BreaksModelError: if they break the model and that was not accepted.
        OutOfMemoryError: if it would not fit.
    """
    path = Path(command.path)
    header = read_model(path)
    names = cache_type(command.type_k).name, cache_type(command.type_v).name
    wished = CacheSettings(*names, max(0, command.n_ctx), tail_wish=max(AUTO_TAIL, command.tail))
    settings = wished.with_tail(possible=native.kernel)
    losses = losses_of(header, path, calibrations_dir(), kernel="own" if native.kernel else "stock")
    budget = Budget(_planner(path, header, settings.pair, repack=command.repack), process, native, losses)
    longest = longest_context(budget.planner.shape)
    notes = []
    if settings.n_ctx == 0:
        settings = replace(settings, n_ctx=budget.default_n_ctx(settings))
    elif settings.n_ctx > longest:
        settings = replace(settings, n_ctx=longest)
        notes.append(
            f"The context is {words.tokens(longest)} long, not {command.n_ctx:,}: "
            "the model was trained for no more."
        )
    settings = settings.with_tail(possible=native.kernel)  # no window is longer than the context
    budget.check_fits(settings)
    warning = budget.warning(settings)
    if warning and not command.accept_loss:
        raise BreaksModelError(warning)
    return LoadPlan(command, settings, budget, header, losses, tuple(notes))


def _with_window(plan: LoadPlan, maker: CacheMaker) -> tuple[CacheSettings, str]:
    """The settings with the window that there can be, and why it is not the one that was asked for."""
    settings = plan.settings
    wished = settings.pair.tail(settings.tail_wish, settings.n_ctx)
    obstacle = maker.window_obstacle(settings) if wished else ""
    if not obstacle:
        return settings, ""
    plan.budget.windows = False
    return replace(settings, tail=0), obstacle if settings.tail_wish > 0 else ""


def _planner(path: Path, header: Header, pair: CachePair, *, repack: bool) -> Planner:
    """A planner with the figures of the engine's own allocator, or with the formula's alone."""
    settings = [*PRESETS] if pair in PRESETS else [*PRESETS, pair]
    try:
        return exact_planner(
            path, header, settings=settings, repack=repack, memory_of_results=cache_dir() / "plans"
        )
    except EngineError:  # the dry run did not come to an end
        return Planner(header, repack=repack)


def open_session(
    plan: LoadPlan,
    inbox: Inbox,
    log: EngineLog,
    emit: Callable[[Event], None],
    poll: Callable[[], None],
    on_progress: Callable[[float], bool],
) -> Session:
    """Load the model and make its cache.

    Raises:
        ModelFileError: if llama.cpp does not load the file.
        EngineError: if it does not make the context, cannot run the model, or was stopped.
    """
    command = plan.command
    loaded = loader.load(
        Path(command.path),
        log,
        repack=command.repack,
        n_gpu_layers=command.n_gpu_layers,
        on_progress=on_progress,
    )
    cache: Cache | None = None
    try:
        shape = plan.budget.planner.shape
        threads = Threads(command.n_threads, adapt=command.adapt_threads)
        store = CentringStore(loaded.model, shape.geometry(), calibrations_dir(), threads.most)
        if store.obstacle:
            plan.losses.centred = never_centred
        maker = CacheMaker(loaded, shape, log, threads, plan.budget.native, store)
        maker.check(plan.settings)
        settings, note = _with_window(plan, maker)
        cache = maker.open(settings)
        state = maker.prove(cache)
        book = ThreadBook(cache_dir() / "threads")
        if command.n_threads:
            measured = book.known(Path(command.path), attention.in_use())
        else:
            token = max(loaded.vocabulary.bos, 0)
            measured = book.choose(
                Path(command.path), attention.in_use(), cache.context, token, lambda: inbox.stopped
            )
        threads.limit(_chosen(command.n_threads, measured), adapt=command.adapt_threads)
        cache.context.set_threads(threads.now, threads.now_reading)
        reason = NO_LAYOUT if state is None else state.obstacle
        notes = (*plan.notes, note, *plan.budget.planner.notes)
        info = loader.describe(loaded, shape, reason, notes)
        conversation = Conversation(
            cache,
            WindowMarks(maker, cache),
            loaded.vocabulary,
            loaded.prompts,
            inbox,
            emit,
            poll,
            threads=threads,
            pace=Pace(plan.header, shape, threads.most_reading),
            n_swa=info.n_swa,
        )
        switcher = Switcher(conversation, maker, plan.budget, inbox, cache, transcodes=info.transcodes)
        if inbox.stopped:
            raise EngineError("The load was stopped.")
        pruner = Pruner(loaded, conversation, switcher, maker, plan.budget, inbox, emit, threads)
        pruner.obstacle = reason if state is None else obstacle(state)
        parking = Parking(loaded.model, loaded.vocabulary, maker, conversation, log, emit, obstacle=reason)
        own = SelfMeasure(
            plan.header, loaded, plan.budget, plan.losses, threads, inbox, store, on=command.measure_loss
        )
        return Session(
            command,
            loaded,
            info,
            conversation,
            switcher,
            pruner,
            plan.budget,
            parking,
            threads,
            own,
            measured,
        )
    except BaseException:
        if cache is not None:
            cache.close()
        loaded.close()
        raise
