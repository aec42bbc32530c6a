"""Pruning the cache of a conversation: what can be, what would go, and doing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app.engine import spans, states, words
from app.engine.budget import Budget
from app.engine.cache import CacheMaker, CacheSettings, layout_of, longest_context
from app.engine.conversation import Conversation
from app.engine.history import Kept
from app.engine.inbox import Inbox
from app.engine.loader import LoadedModel
from app.engine.protocol import (
    CacheChanged,
    Event,
    FullOption,
    PrefillProgress,
    PruneCache,
    PrunePreview,
    Turn,
)
from app.engine.pruned import Pruned
from app.engine.switch import Switcher
from app.engine.threads import Threads
from app.engine.window import window_of
from models.plan import round_up
from quantize.errors import CacheTypeError, ContextFullError, EngineError, OutOfMemoryError
from quantize.lab.divergence import Divergence, log_softmax
from quantize.llama import Context
from quantize.model_ropes import ropes_of
from quantize.native import attention
from quantize.native.attention_mass import Watched
from quantize.prune.observe import REQUEST, Observed, Text, extra_cells, observe, watching_context
from quantize.prune.policy import DEFAULT, FALLBACK, Policy, policy
from quantize.prune.prune import Plan, plan_prune, write_pruned
from quantize.prune.selection import Request
from quantize.prune.window import carry
from quantize.state import SavedState, read_state

N_PROBE = 32
"""Newest tokens on which the loss is measured, as far as they stay whole."""

STRIP = 160
"""Parts of the strip."""

SMALLEST_TARGET = 0.05


@dataclass
class _Prepared:
    """A prune that was shown and not yet done."""

    command: PruneCache
    tokens: list[int]
    n_cells: int
    plan: Plan
    data: NDArray[np.uint8]
    chosen: Policy


class Pruner:
    """Prunes one model's cache.

    Attributes:
        obstacle: why this model's cache cannot be pruned; empty if it can.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        conversation: Conversation,
        switcher: Switcher,
        maker: CacheMaker,
        budget: Budget,
        inbox: Inbox,
        emit: Callable[[Event], None],
        threads: Threads,
    ) -> None:
        self.obstacle = ""
        self._loaded = loaded
        self._conversation = conversation
        self._switcher = switcher
        self._maker = maker
        self._budget = budget
        self._inbox = inbox
        self._emit = emit
        self._threads = threads
        self._prepared: _Prepared | None = None

    # ------------------------------------------------------------------ what is asked for

    def choose(self, name: str) -> Policy:
        """The policy called ``name``, or the best that can be used.

        Raises:
            UsageError: if there is none.
            CacheTypeError: if this model cannot be pruned, or not by this policy.
        """
        chosen = policy(name or DEFAULT)
        if self.obstacle:
            raise CacheTypeError(f"The cache of this model cannot be pruned. {self.obstacle}")
        if chosen.needs_kernel:
            with self._own_kernel():
                status = attention.enable()
            if not status.ok:
                if not name:
                    return policy(FALLBACK)
                raise CacheTypeError(
                    f"{chosen.name} looks at the attention, which only the own kernel shows. {status.reason}",
                    f"/prune 50% {FALLBACK} looks at keys and values alone.",
                )
        return chosen

    def option(self, turns: tuple[Turn, ...], needed: int) -> FullOption | None:
        """The way out of a full context by pruning; None if it is none.

        Args:
            needed: cells that the conversation and the beginning of a reply take.
        """
        conversation = self._conversation
        longest = longest_context(self._maker.shape)
        if self.obstacle or needed + conversation.n_gone >= longest:
            return None
        target = conversation.n_ctx * 3 // 4
        chosen = self.choose("")
        return FullOption(
            "prune",
            f"Prune the cache to {words.tokens(target)} of {conversation.n_ctx:,} and keep {chosen.title}: "
            "something of every message stays, and some details are forgotten.",
            n_ctx=target,
        )

    # ------------------------------------------------------------------ the two commands

    def preview(self, command: PruneCache) -> PrunePreview:
        """What a prune would do, with its loss measured on the newest tokens.

        Raises:
            StretchError: if it cannot be done.
        """
        began = perf_counter()
        chosen = self.choose(command.policy)
        conversation = self._conversation
        self._check_text()
        state = read_state(states.save(self._switcher.cache.context, states.in_memory))
        n = state.n_cells
        with self._beside(chosen, self._text(command), n, n_outputs=N_PROBE) as (context, watched):
            plan, data = self._plan(command, chosen, state, context, watched, self._keep(command, n))
            divergence = self._probe(context, state.data, data, plan)
        self._prepared = _Prepared(
            replace(command, id=0, preview=False), list(conversation.tokens), n, plan, data, chosen
        )
        freed = self._bytes_of(n - plan.n_kept)
        summary = divergence.summary() if divergence is not None else None
        lost = (
            f", KLD {summary.kld_mean:.4f} on the newest {summary.n_tokens} tokens"
            if summary is not None
            else ""
        )
        return PrunePreview(
            command.id,
            chosen.name,
            chosen.title,
            n,
            plan.n_kept,
            freed,
            tuple(float(x) for x in _strip(plan, state.positions(), len(conversation.tokens))),
            summary.kld_mean if summary is not None else 0.0,
            summary.top1 if summary is not None else 1.0,
            summary.n_tokens if summary is not None else 0,
            perf_counter() - began,
            f"{words.tokens(n - plan.n_kept)} of {n:,} would go ({words.size(freed)}){lost}.",
        )

    def prune(self, command: PruneCache) -> CacheChanged:
        """Prune.

        Raises:
            StretchError: if it cannot be done; the cache is then as it was.
        """
        began = perf_counter()
        chosen = self.choose(command.policy)
        conversation = self._conversation
        if command.until > 0:
            return self._make_room(command, chosen, began)
        self._check_text()
        prepared, self._prepared = self._prepared, None
        if (
            prepared is not None
            and prepared.command == replace(command, id=0)
            and prepared.tokens == conversation.tokens
            and prepared.n_cells == conversation.n_used
        ):
            before = conversation.n_used
            self._apply(prepared.plan, prepared.data, per_head=not command.whole)
            return self._done(command.id, chosen, before, began)
        before = conversation.n_used
        self._once(command, chosen, self._keep(command, before))
        return self._done(command.id, chosen, before, began)

    # ------------------------------------------------------------------ inside

    def _keep(self, command: PruneCache, n_cells: int) -> float:
        if not 0 < command.keep <= 1:
            raise CacheTypeError("A share between 1% and 100% can be kept.", "Write for example /prune 50%.")
        return command.keep

    def _check_text(self) -> None:
        if self._conversation.n_used < 2 * N_PROBE:
            raise EngineError(
                "There is not enough in the cache to prune.", "Go on with the conversation first."
            )

    def _make_room(self, command: PruneCache, chosen: Policy, began: float) -> CacheChanged:
        """Read the prompt, pruning whenever the context is full, until it is in with room to go on."""
        conversation = self._conversation
        prompts = self._loaded.prompts
        prompt = prompts.make(command.turns).tokens if command.turns else list(conversation.tokens)
        wanted, n_same = prompts.reuse(conversation.tokens, prompt)
        if len(wanted) >= longest_context(self._maker.shape):
            raise ContextFullError(
                f"The conversation has {words.tokens(len(wanted))}, more than the model was trained for.",
                "Drop the oldest messages, or begin a new conversation.",
            )
        _, note = conversation.keep(min(n_same, len(wanted)))
        before = len(wanted)
        room = max(1, conversation.n_ctx - command.until)
        while True:
            left = len(wanted) - len(conversation.tokens)
            step = min(left, max(0, command.until + room // 2 - conversation.n_used))
            if step and not conversation.read(
                command.id, wanted[: len(conversation.tokens) + step], n_same, logits=False
            ):
                raise EngineError("The reading was stopped.")
            left -= step
            if not left and conversation.n_used <= command.until:
                break
            n = conversation.n_used
            keep = max(SMALLEST_TARGET, command.until * 0.9 / n) if n else 1.0
            self._once(command, chosen, min(1.0, keep))
            if conversation.n_used >= n:
                raise ContextFullError("Nothing more can be pruned.", "Choose a longer context.")
        return self._done(command.id, chosen, before, began, note)

    def _once(self, command: PruneCache, chosen: Policy, keep: float) -> None:
        state = read_state(states.save(self._switcher.cache.context, states.in_memory))
        if chosen.needs_kernel:
            with self._beside(chosen, self._text(command), state.n_cells) as (context, watched):
                plan, data = self._plan(command, chosen, state, context, watched, keep)
        else:
            plan, data = self._plan(command, chosen, state, None, None, keep)
        self._apply(plan, data, per_head=not command.whole)

    def _plan(
        self,
        command: PruneCache,
        chosen: Policy,
        state: SavedState,
        context: Context | None,
        watched: Watched | None,
        keep: float,
    ) -> tuple[Plan, NDArray[np.uint8]]:
        geometry = self._maker.shape.geometry()
        observed: Observed | None = None
        if chosen.needs_kernel:
            if context is None or watched is None:
                raise EngineError("The attention cannot be seen.")
            if not context.load_state(state.data):
                raise EngineError("llama.cpp did not take a copy of the cache.")
            observed = observe(
                context,
                watched,
                chosen.observation,
                self._text(command),
                state.n_cells,
                len(geometry.parts[0]),
                lambda done, total: self._progress(command.id, context, done, total),
            )
        parts = spans.of(self._loaded, self._conversation.tokens, command.turns)
        request = Request(
            keep,
            per_head=not command.whole,
            last=max(64, N_PROBE),
            protected=spans.protected(self._loaded, self._conversation.tokens, parts, command),
            segments=parts,
        )
        plan = plan_prune(
            state,
            geometry,
            chosen,
            request,
            ropes=ropes_of(self._loaded.model, geometry, self._switcher.cache.context.n_ctx)[0],
            observed=observed,
            on_progress=lambda _done, _all: not self._inbox.stopped,
        )
        data = states.in_memory(plan.size)
        write_pruned(state, geometry, plan, data)
        return plan, data

    def _apply(self, plan: Plan, data: NDArray[np.uint8], *, per_head: bool) -> None:
        """Take the pruned state; the whole one is kept for an undo where the disk has room."""
        conversation, cache = self._conversation, self._switcher.cache
        size = cache.context.state_size()
        in_file = size <= states.disk_room()
        room = states.in_file if in_file else states.in_memory
        whole = read_state(states.save(cache.context, room))
        before = Kept(
            cache.settings,
            list(conversation.tokens),
            whole.data if in_file else None,
            window_of(cache, self._maker),
            conversation.pruned,
        )
        n = conversation.n_used
        cache.context.clear()
        if not cache.context.load_state(data):
            cache.context.load_state(whole.data)
            raise EngineError("llama.cpp refused the pruned cache.", "The cache is as it was before.")
        if cache.tail is not None and before.window:
            carry(before.window, whole, read_state(data), plan, layout_of(self._maker.shape), cache.tail)
        mixed = per_head or (conversation.pruned is not None and conversation.pruned.composite)
        conversation.rewritten(Pruned(plan.whole_from, conversation.n_gone + n - plan.n_kept, mixed))
        self._switcher.history.push(before)

    def _done(self, id: int, chosen: Policy, before: int, began: float, note: str = "") -> CacheChanged:
        now = self._conversation.n_used
        return self._switcher.report(
            id,
            perf_counter() - began,
            f"Pruned by {chosen.name}: {words.tokens(now)} of {before:,} are left, which frees "
            f"{words.size(self._bytes_of(before - now))} of the context. {note}".rstrip(),
        )

    def _bytes_of(self, n_tokens: int) -> int:
        """What tokens take of the context."""
        return int(n_tokens * self._budget.planner.bytes_per_token(self._switcher.cache.settings.pair))

    def _text(self, command: PruneCache) -> Text:
        """What the cache was read from, and how to ask for it again."""
        tokens, pruned = self._conversation.tokens, self._conversation.pruned
        prompts = self._loaded.prompts
        asked = prompts.make((*command.turns, Turn("user", REQUEST))).tokens
        rest, n_same = prompts.reuse(tokens, asked)
        before = rest[n_same:] if n_same == len(tokens) else self._loaded.model.tokenize(f"\n\n{REQUEST}\n\n")
        return Text(list(tokens), pruned.whole_from if pruned is not None else 0, before)

    def _progress(self, id: int, context: Context, done: int, total: int) -> bool:
        self._threads.watch(context)
        self._emit(PrefillProgress(id, done, total, 0, 0.0, 0.0))
        return not self._inbox.stopped

    @contextmanager
    def _own_kernel(self) -> Iterator[None]:
        """Whatever is done here, new graphs use afterwards what they used before."""
        own = self._budget.native.kernel
        try:
            yield
        finally:
            attention.use("own" if own else "stock")

    @contextmanager
    def _beside(
        self, chosen: Policy, text: Text, n_cells: int, n_outputs: int = 1
    ) -> Iterator[tuple[Context, Watched | None]]:
        """A second context for a copy of the conversation.

        Raises:
            OutOfMemoryError: if it does not fit.
        """
        settings = self._switcher.cache.settings
        n_ctx = n_cells + extra_cells(chosen.observation, text) + 1
        wanted = CacheSettings(settings.type_k, settings.type_v, round_up(n_ctx))
        needed, free = self._budget.context_bytes(wanted), self._budget.free(settings)
        if needed > free:
            raise OutOfMemoryError(
                f"Pruning by {chosen.name} takes {words.size(needed)} for a copy of the cache, and "
                f"{words.size(max(0, free))} are available.",
                f"/prune 50% {FALLBACK} needs no second cache when it runs without a preview.",
            )
        type_k, type_v = self._maker.type_ids(settings)
        model = self._loaded.model
        with self._own_kernel():
            if chosen.needs_kernel:
                with watching_context(model, n_ctx, type_k, type_v, self._threads.now, n_outputs) as both:
                    both[0].stop_with(self._inbox.stop_flag)
                    yield both
            else:
                with Context(
                    model,
                    n_ctx=n_ctx,
                    type_k=type_k,
                    type_v=type_v,
                    n_threads=self._threads.now,
                    n_outputs_max=n_outputs,
                ) as context:
                    context.stop_with(self._inbox.stop_flag)
                    yield context, None

    def _probe(
        self, context: Context, whole: NDArray[np.uint8], data: NDArray[np.uint8], plan: Plan
    ) -> Divergence | None:
        """How the expectation of the newest tokens differs with the pruned cache."""
        tokens = self._conversation.tokens
        first = max(plan.whole_from, len(tokens) - N_PROBE)
        n = len(tokens) - first
        if n < 2:
            return None
        answers = []
        for state in (whole, data):
            context.clear()
            if not context.load_state(state) or not context.remove(first):
                return None
            if context.decode(tokens[first:], first, logits="all"):
                raise EngineError("The preview was stopped.")
            answers.append(np.stack([log_softmax(context.logits(i)[None].copy())[0] for i in range(n - 1)]))
        out = Divergence()
        out.add(answers[0], answers[1], np.asarray(tokens[first + 1 :], np.int64))
        return out


def _strip(plan: Plan, positions: NDArray[np.int32], n_tokens: int) -> NDArray[np.float64]:
    """The share of each part of the conversation that stays."""
    n = min(STRIP, max(1, n_tokens))
    share = np.zeros(n_tokens)
    share[positions] = plan.share
    edges = np.linspace(0, n_tokens, n + 1).astype(int)
    return np.array([share[a:b].mean() if b > a else 0.0 for a, b in pairwise(edges)])
