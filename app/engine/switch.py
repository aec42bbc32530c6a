"""Changing the types or the length of the cache while the conversation stays: what is asked for, what it
would take and gain, and the way back. ``mover.py`` does it."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from app.engine import words
from app.engine.budget import Budget
from app.engine.cache import Cache, CacheMaker, CacheSettings, longest_context
from app.engine.conversation import Conversation
from app.engine.history import History, Kept
from app.engine.inbox import Inbox
from app.engine.mover import Mover
from app.engine.needs import Needs, needs_of
from app.engine.protocol import KEEP_TAIL, CacheChanged, CachePreview, SetCache
from app.engine.switch_words import changed, no_change, preview, refused
from app.engine.window import window_of
from models.plan import round_up
from quantize.cache_types import CACHE_TYPES, CachePair, CacheType, cache_type
from quantize.errors import (
    BreaksModelError,
    CacheTypeError,
    ContextFullError,
    EngineError,
    OutOfMemoryError,
)
from quantize.lab.loss import Loss
from quantize.llama import trim_heap


class Switcher:
    """Does the changes of one model's cache.

    Args:
        transcodes: whether this model's states can be transcoded.
    """

    def __init__(
        self,
        conversation: Conversation,
        maker: CacheMaker,
        budget: Budget,
        inbox: Inbox,
        cache: Cache,
        *,
        transcodes: bool,
    ) -> None:
        self.history = History()
        self.active = False
        """A change is under way."""
        self._conversation = conversation
        self._maker = maker
        self._budget = budget
        self._transcodes = transcodes
        self._geometry = maker.shape.geometry()
        self._mover = Mover(conversation, maker, inbox, cache, self.history)

    @property
    def cache(self) -> Cache:
        """The one that holds the conversation now."""
        return self._mover.cache

    # ------------------------------------------------------------------ what is asked for

    def target(self, command: SetCache) -> CacheSettings:
        """The settings that ``command`` asks for, checked.

        Raises:
            CacheTypeError: if this model cannot have them.
            ContextFullError: if the conversation would not fit.
        """
        now = self.cache.settings
        type_k = cache_type(command.type_k).name if command.type_k else now.type_k
        type_v = cache_type(command.type_v).name if command.type_v else now.type_v
        n_ctx = round_up(command.n_ctx) if command.n_ctx > 0 else now.n_ctx
        wish = command.tail if command.tail > KEEP_TAIL else now.tail_wish
        wanted = CacheSettings(type_k, type_v, n_ctx, tail_wish=wish)
        self._maker.check(wanted)
        wanted = self._with_window(wanted, insists=command.tail > 0)
        needed = self._conversation.n_needed
        if self._must_reprefill(command.reprefill):
            needed += self._conversation.n_gone  # what was pruned comes back
        if n_ctx < needed:
            raise ContextFullError(
                f"The conversation has {words.tokens(needed)} and would not fit in {n_ctx:,}.",
                "Choose a longer context, or begin a new conversation.",
            )
        trained = self._maker.shape.n_ctx_train
        if n_ctx > longest_context(self._maker.shape):
            raise CacheTypeError(
                f"This model was trained for contexts of {words.tokens(trained)}; "
                f"with {n_ctx:,} it would lose its way.",
                f"The longest is /ctx {trained}.",
            )
        return wanted

    def _with_window(self, wanted: CacheSettings, *, insists: bool) -> CacheSettings:
        """``wanted`` with the window that there can be.

        Args:
            insists: the window itself was asked for.

        Raises:
            CacheTypeError: if it was, and there can be none.
        """
        settings = wanted.with_tail(possible=True)
        obstacle = self._maker.window_obstacle(settings) if settings.tail else ""
        if obstacle and insists:
            raise CacheTypeError(obstacle, "/tail off goes on without it.")
        return replace(settings, tail=0) if obstacle else settings

    def needs(self, wanted: CacheSettings, *, reprefill: bool) -> Needs:
        """What the change to ``wanted`` takes."""
        empty = reprefill or not self._conversation.n_used
        return needs_of(self.cache, wanted, self._budget, self._geometry, empty=empty)

    def preview(self, command: SetCache) -> CachePreview:
        """What a change would need and gain.

        Raises:
            StretchError: if it cannot be asked for at all.
        """
        wanted = self.target(command)
        reprefill = self._must_reprefill(command.reprefill)
        needs = self.needs(wanted, reprefill=reprefill)
        before, after = self._budget.kv_bytes(self.cache.settings), self._budget.kv_bytes(wanted)
        if needs.fits:
            n_reread = self._conversation.n_used if reprefill else 0
            sentence = preview(wanted, after - before, n_reread, needs.through_file)
        else:
            sentence = self._refusal(wanted, needs).message
        return CachePreview(
            command.id,
            wanted.type_k,
            wanted.type_v,
            wanted.tail,
            wanted.n_ctx,
            before,
            after,
            max(0, needs.one if needs.through_file else needs.both),
            needs.through_file,
            reprefill,
            needs.fits,
            sentence,
            self._budget.max_ctx(wanted),
            self._budget.loss(wanted.pair, wanted.tail),
            self._warning(wanted),
            tuple(self._beside(wanted, t, wanted.pair.v) for t in CACHE_TYPES.values()),
            tuple(self._beside(wanted, wanted.pair.k, t) for t in CACHE_TYPES.values()),
        )

    def _beside(self, wanted: CacheSettings, k: CacheType, v: CacheType) -> Loss:
        """What ``wanted`` would cost with these types."""
        pair = CachePair(k, v)
        return self._budget.loss(pair, pair.tail(wanted.tail_wish, wanted.n_ctx) if wanted.tail else 0)

    def _warning(self, wanted: CacheSettings) -> str:
        """Why ``wanted`` has to be asked for explicitly; empty for what is in use already."""
        now = self.cache.settings
        return self._budget.warning(wanted) if (wanted.types, wanted.tail) != (now.types, now.tail) else ""

    # ------------------------------------------------------------------ doing it

    def change(self, command: SetCache) -> CacheChanged:
        """Change the cache as ``command`` asks.

        Raises:
            BreaksModelError: if it breaks the model and that was not accepted.
            StretchError: if it cannot be done; the old cache is there as before, or (if it had to
                be freed and could not be made again) an empty one that the conversation refills.
        """
        wanted = self.target(command)
        reprefill = self._must_reprefill(command.reprefill)
        now = self.cache.settings
        if replace(wanted, tail_wish=now.tail_wish) == now and not command.reprefill:
            self.cache.settings = wanted  # what is wished for other types may be another
            return self._changed(command.id, self.cache, 0.0, False, no_change(now, wanted))
        if not command.accept_loss and (warning := self._warning(wanted)):
            raise BreaksModelError(warning)
        conversation = self._conversation
        exact = None if reprefill else self.history.exact(wanted, conversation.tokens, conversation.pruned)
        return self._run(command.id, wanted, reprefill, exact, remember=True)

    def undo(self, id: int) -> CacheChanged:
        """Go back to the cache before the last change.

        Raises:
            StretchError: if there is none, or as ``change``.
        """
        kept = self.history.last
        if kept is None and self._conversation.pruned is not None:
            raise EngineError(
                "What was pruned before the conversation was parked is no longer there.",
                "/reprefill reads everything again.",
            )
        if kept is None:
            raise EngineError("There is no change of the cache to undo.")
        if kept.settings.n_ctx < self._conversation.n_needed:
            raise ContextFullError(
                f"The conversation has grown to {words.tokens(self._conversation.n_needed)} and no longer "
                f"fits in the {kept.settings.n_ctx:,} from before the change."
            )
        if kept.pruned != self._conversation.pruned:
            return self._unprune(id, kept)
        return self._run(id, kept.settings, self._must_reprefill(False), kept, remember=False)

    def _unprune(self, id: int, kept: Kept) -> CacheChanged:
        """Bring the pruned cells back: what was there before the prune exactly, what came since as it is."""
        began = perf_counter()
        conversation = self._conversation
        if kept.state is None or kept.settings.types != self.cache.settings.types:
            raise EngineError(
                "The cache from before the prune is no longer there.", "/reprefill reads everything again."
            )
        if len(conversation.tokens) > conversation.n_ctx:
            raise ContextFullError(
                f"With the pruned cells the conversation takes {words.tokens(len(conversation.tokens))}, and "
                f"the context has {conversation.n_ctx:,}.",
                "Choose a longer context first.",
            )
        before = conversation.n_used
        self._mover.unprune(kept, kept.state)
        self.history.pop()
        back = words.tokens(conversation.n_used - before)
        sentence = f"The prune is undone: {back} are back, exactly as they were."
        return self._changed(id, self.cache, perf_counter() - began, False, sentence)

    def _run(
        self, id: int, wanted: CacheSettings, reprefill: bool, exact: Kept | None, *, remember: bool
    ) -> CacheChanged:
        began = perf_counter()
        old = self.cache
        needs = self.needs(wanted, reprefill=reprefill)
        if not needs.fits:
            raise self._refusal(wanted, needs)
        self.active = True
        try:
            tokens, pruned = list(self._conversation.tokens), self._conversation.pruned
            window = window_of(old, self._maker) if tokens else None
            if reprefill or not tokens:
                state = None
                self._mover.reread(id, wanted, free_first=needs.through_file)
            else:
                state = self._mover.carry(wanted, exact, needs, window)
        finally:
            self.active = False
        trim_heap()
        n_exact = exact.n_exact(tokens) if exact is not None else 0
        if remember:
            self.history.push(Kept(old.settings, tokens, state, window, pruned))
        else:
            self.history.pop()
        seconds = perf_counter() - began
        read_again = reprefill and bool(tokens)
        loss = self._budget.loss(self.cache.settings.pair, self.cache.settings.tail)
        said = changed(old, self.cache, len(tokens), read_again, n_exact, self._mover.n_window, loss)
        return self._changed(id, old, seconds, read_again, said)

    # ------------------------------------------------------------------ small things

    def _must_reprefill(self, asked: bool) -> bool:
        return asked or not self._transcodes

    def report(self, id: int, seconds: float, sentence: str) -> CacheChanged:
        """What was done to the contents of the present cache."""
        return self._changed(id, self.cache, seconds, False, sentence)

    def _changed(self, id: int, old: Cache, seconds: float, reprefilled: bool, sentence: str) -> CacheChanged:
        now = self.cache
        return CacheChanged(
            id,
            now.settings.type_k,
            now.settings.type_v,
            now.settings.tail,
            now.settings.n_ctx,
            old.kv_bytes,
            now.kv_bytes,
            self._budget.max_ctx(old.settings),
            self._budget.max_ctx(now.settings),
            seconds,
            reprefilled,
            len(self.history) > 0,
            sentence,
            now.settings.tail_wish,
            self._budget.warning(now.settings),
        )

    def _refusal(self, wanted: CacheSettings, needs: Needs) -> OutOfMemoryError:
        return self._budget.refusal(refused(wanted, min(needs.both, needs.one), needs.available), wanted)
