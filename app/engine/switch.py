"""Changing the types or the length of the cache while the conversation stays.

The state of the sequence is saved, transcoded and loaded into a new context on the same model;
the old context lives until the new one is proven to hold it. Where both do not fit, the state
goes through a file, the old context is freed first, and the file is the way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app.engine import states, words
from app.engine.budget import Budget
from app.engine.cache import Cache, CacheMaker, CacheSettings, longest_context
from app.engine.conversation import Conversation
from app.engine.history import History, Kept, put_exact_rows
from app.engine.inbox import Inbox
from app.engine.needs import Needs, needs_of
from app.engine.prompt import common_prefix
from app.engine.protocol import KEEP_TAIL, CacheChanged, CachePreview, SetCache
from app.engine.pruned import Pruned
from app.engine.switch_words import changed, no_change, preview, refused
from app.engine.window import WindowKeeper, window_of
from quantize.cache_types import cache_type
from quantize.errors import (
    CacheTypeError,
    ContextFullError,
    EngineError,
    OutOfMemoryError,
    StretchError,
)
from quantize.llama import trim_heap
from quantize.native.window import Filling, Window
from quantize.prune.merge import merged
from quantize.state import SavedState, read_state
from quantize.transcode import transcode, transcoded_size


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
        self.cache = cache
        self.history = History()
        self.active = False
        """A change is under way."""
        self._conversation = conversation
        self._maker = maker
        self._budget = budget
        self._inbox = inbox
        self._transcodes = transcodes
        self._geometry = maker.shape.geometry()
        self._windows = WindowKeeper(maker, self.history)
        self._n_window = 0  # tokens whose exact rows the last change took along

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
        n_ctx = math.ceil(command.n_ctx / 256) * 256 if command.n_ctx > 0 else now.n_ctx
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
        )

    # ------------------------------------------------------------------ doing it

    def change(self, command: SetCache) -> CacheChanged:
        """Change the cache as ``command`` asks.

        Raises:
            StretchError: if it cannot be done; the old cache is there as before, or (if it had to
                be freed and could not be made again) an empty one that the conversation refills.
        """
        wanted = self.target(command)
        reprefill = self._must_reprefill(command.reprefill)
        now = self.cache.settings
        if replace(wanted, tail_wish=now.tail_wish) == now and not command.reprefill:
            self.cache.settings = wanted  # what is wished for other types may be another
            return self._changed(command.id, self.cache, 0.0, False, no_change(now, wanted))
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
        conversation, cache = self._conversation, self.cache
        if kept.state is None or not self._same_types(kept.settings):
            raise EngineError(
                "The cache from before the prune is no longer there.", "/reprefill reads everything again."
            )
        n_same = common_prefix(kept.tokens, conversation.tokens)
        if len(conversation.tokens) > conversation.n_ctx:
            raise ContextFullError(
                f"With the pruned cells the conversation takes {words.tokens(len(conversation.tokens))}, and "
                f"the context has {conversation.n_ctx:,}.",
                "Choose a longer context first.",
            )
        now = self._save(states.in_memory)
        window = window_of(cache, self._maker)
        whole = merged(read_state(kept.state), read_state(now), n_same)
        cache.context.clear()
        if not cache.context.load_state(whole):
            cache.context.load_state(now)
            raise EngineError("llama.cpp refused the cache from before the prune.", "It is as it was.")
        if cache.tail is not None:
            self._windows.joined(cache.settings, kept, now, window, n_same, whole).fill(
                cache.tail, read_state(whole)
            )
        before = conversation.n_used
        conversation.rewritten(kept.pruned)
        self.history.pop()
        back = words.tokens(conversation.n_used - before)
        sentence = f"The prune is undone: {back} are back, exactly as they were."
        return self._changed(id, cache, perf_counter() - began, False, sentence)

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
            self._n_window = 0
            if reprefill or not tokens:
                state = None
                self._reread(id, wanted, free_first=needs.through_file)
            elif needs.through_file:
                state = self._through_file(wanted, exact, window)
            else:
                state = self._side_by_side(wanted, exact, needs, window)
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
        said = changed(old, self.cache, len(tokens), read_again, n_exact, self._n_window)
        return self._changed(id, old, seconds, read_again, said)

    def _side_by_side(
        self, wanted: CacheSettings, exact: Kept | None, needs: Needs, window: Window | None
    ) -> NDArray[np.uint8] | None:
        """Both contexts at once. Returns the old state if it is in a file and so can be kept."""
        in_file = needs.state <= states.disk_room()
        data = self._save(states.in_file if in_file else states.in_memory)
        room = states.in_file if needs.new_in_file else states.in_memory
        filling = self._windows.gather(
            wanted, self._conversation.tokens, data, window, self._conversation.pruned
        )
        moved = self._transcode(data, wanted, exact, room, filling, consume=not in_file)
        cache = self._open_with(wanted, moved, filling)
        self._adopt(cache)
        return data if in_file else None

    def _through_file(
        self, wanted: CacheSettings, exact: Kept | None, window: Window | None
    ) -> NDArray[np.uint8]:
        """Free the old context before the new one is made."""
        data = self._save(states.in_file)
        filling = self._windows.gather(
            wanted, self._conversation.tokens, data, window, self._conversation.pruned
        )
        moved = self._transcode(data, wanted, exact, states.in_file, filling, consume=False)
        old = self.cache
        back = self._windows.gather(
            old.settings, self._conversation.tokens, data, window, self._conversation.pruned
        )
        old.close()
        try:
            cache = self._open_with(wanted, moved, filling)
        except StretchError as error:
            self._go_back(old.settings, data, back, error)
            raise
        self.cache = cache
        self._conversation.move_to(cache)
        return data

    def _go_back(
        self, settings: CacheSettings, data: NDArray[np.uint8], filling: Filling, reason: StretchError
    ) -> None:
        """After a failure with the old context gone: make it again from its saved state."""
        try:
            self.cache = self._open_with(settings, data, filling)
        except StretchError:
            # Not even that: an empty cache, which the next message fills again from its text.
            self.cache = self._maker.open(settings)
            self._conversation.tokens.clear()
            self._conversation.pruned = None
        self._conversation.move_to(self.cache)
        reason.hint = reason.hint or "The cache is as it was before."

    def _save(self, room: Callable[[int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        context = self.cache.context
        data = room(context.state_size())
        written = context.save_state(data)
        if written == 0:
            raise EngineError("llama.cpp could not save the state of the conversation.")
        return data[:written]

    def _transcode(
        self,
        data: NDArray[np.uint8],
        wanted: CacheSettings,
        exact: Kept | None,
        room: Callable[[int], NDArray[np.uint8]],
        filling: Filling,
        *,
        consume: bool,
    ) -> NDArray[np.uint8]:
        if self._same_types(wanted):
            return data
        type_k, type_v = self._maker.type_ids(wanted)
        state: SavedState = read_state(data)
        out = room(transcoded_size(state, self._geometry, type_k, type_v))
        whole = transcode(
            state,
            self._geometry,
            type_k,
            type_v,
            out,
            on_progress=lambda _done, _total: not self._inbox.stopped,
            consume=consume,
        )
        if not whole:
            raise EngineError("The change was stopped; the cache is as it was.")
        filling.write_into(read_state(out))
        if exact is not None and exact.state is not None:
            n_exact = exact.n_exact(self._conversation.tokens)
            put_exact_rows(out, exact.state, n_exact)
        return out

    def _open_with(self, settings: CacheSettings, data: NDArray[np.uint8], filling: Filling) -> Cache:
        """A new context that holds ``data``, proven to, with its window filled.

        Raises:
            EngineError: if llama.cpp does not make it or refuses the state.
        """
        cache = self._maker.open(settings)
        try:
            taken = cache.context.load_state(data)
            if not taken or cache.context.last_position() != len(self._conversation.tokens) - 1:
                raise EngineError("llama.cpp refused the transcoded state.", "The cache is as it was before.")
            state = read_state(data)
            self._maker.measure(cache, state)
            if cache.tail is not None:
                filling.fill(cache.tail, state)
                self._n_window = filling.n_exact
        except BaseException:
            cache.close()
            raise
        return cache

    def _adopt(self, cache: Cache) -> None:
        old, self.cache = self.cache, cache
        self._conversation.move_to(cache)
        old.close()

    def _reread(self, id: int, wanted: CacheSettings, *, free_first: bool) -> None:
        """Make an empty context and read the conversation again."""
        old, conversation = self.cache, self._conversation
        tokens, pruned = list(conversation.tokens), conversation.pruned
        if free_first:
            old.close()
        try:
            cache = self._maker.open(wanted)
        except StretchError:
            if free_first:
                conversation.tokens.clear()
                conversation.pruned = None
                self.cache = self._maker.open(old.settings)
                conversation.move_to(self.cache)
            raise
        try:
            self._maker.prove(cache)
            conversation.tokens.clear()
            conversation.pruned = None
            conversation.move_to(cache)
            complete = conversation.read(id, tokens, 0, logits=False)
        except BaseException:
            self._after_failed_reread(old, cache, tokens, pruned, free_first)
            raise
        if not complete and not free_first:
            self._after_failed_reread(old, cache, tokens, pruned, free_first)
            raise EngineError("The change was stopped; the cache is as it was.")
        self.cache = cache
        if not free_first:
            old.close()

    def _after_failed_reread(
        self, old: Cache, new: Cache, tokens: list[int], pruned: Pruned | None, old_is_gone: bool
    ) -> None:
        conversation = self._conversation
        if old_is_gone:
            self.cache = new  # the only one there is; it holds what was read
            return
        conversation.tokens[:] = tokens
        conversation.pruned = pruned
        conversation.move_to(old)
        new.close()

    # ------------------------------------------------------------------ small things

    def _same_types(self, wanted: CacheSettings) -> bool:
        return wanted.types == self.cache.settings.types

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
        )

    def _refusal(self, wanted: CacheSettings, needs: Needs) -> OutOfMemoryError:
        return self._budget.refusal(refused(wanted, min(needs.both, needs.one), needs.available), wanted)
