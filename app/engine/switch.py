"""Changing the types or the length of the cache while the conversation stays.

The state of the sequence is saved, transcoded and loaded into a new context on the same model;
the old context lives until the new one is proven to hold it. Where both do not fit, the state
goes through a file, the old context is freed first, and the file is the way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app.engine import states, words
from app.engine.budget import Budget
from app.engine.cache import Cache, CacheMaker, CacheSettings, longest_context
from app.engine.conversation import Conversation
from app.engine.history import History, Kept, put_exact_rows
from app.engine.inbox import Inbox
from app.engine.protocol import CacheChanged, CachePreview, SetCache
from app.engine.switch_words import changed, preview, refused
from quantize.cache_types import cache_type
from quantize.errors import (
    CacheTypeError,
    ContextFullError,
    EngineError,
    OutOfMemoryError,
    StretchError,
)
from quantize.llama import trim_heap
from quantize.state import SavedState, read_state
from quantize.transcode import transcode, transcoded_size, working_bytes


@dataclass(frozen=True, slots=True)
class Needs:
    """What a change takes on top of what is taken now, in bytes."""

    state: int
    """Of the saved state as it is."""
    new_state: int
    """Of the transcoded one; 0 if the types stay."""
    new_in_file: bool
    """The transcoded state has to be in a file, for memory is short."""
    both: int
    """Memory at the peak, with the old and the new context."""
    one: int
    """Memory at the peak if the old context is freed first (negative if it gives more than is taken)."""
    available: int
    through_file: bool
    """Both contexts do not fit at once."""
    fits: bool


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
        wanted = CacheSettings(type_k, type_v, n_ctx, command.tail if command.tail >= 0 else now.tail)
        self._maker.check(wanted)
        needed = self._conversation.n_needed
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

    def needs(self, wanted: CacheSettings, *, reprefill: bool) -> Needs:
        """What the change to ``wanted`` takes."""
        conversation, old = self._conversation, self.cache
        state = new_state = work = 0
        if conversation.n_used and not reprefill:
            state = old.context.state_size()
            ratio = self._budget.kv_bytes(wanted) / max(1, self._budget.kv_bytes(old.settings))
            same_length = ratio * old.settings.n_ctx / wanted.n_ctx
            if not self._same_types(wanted):
                new_state = math.ceil(state * same_length) + 65536
                work = working_bytes(self._geometry)
        added = self._budget.context_bytes(wanted)
        available = self._budget.free(old.settings)
        disk = states.disk_room()
        both_files = state + new_state <= disk
        both = (0 if state <= disk else state) + new_state + max(work, added)
        new_in_file = both > available and both_files
        if new_in_file:
            both = max(work, added)
        one = max(work, added - self._budget.context_bytes(old.settings))
        fits_both, fits_one = both <= available, one <= available and both_files
        return Needs(
            state, new_state, new_in_file, both, one, available, not fits_both, fits_both or fits_one
        )

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
        if wanted == self.cache.settings and not command.reprefill:
            return self._changed(command.id, self.cache, 0.0, False, "The cache is already so.")
        exact = None if reprefill else self.history.exact(wanted, self._conversation.tokens)
        return self._run(command.id, wanted, reprefill, exact, remember=True)

    def undo(self, id: int) -> CacheChanged:
        """Go back to the cache before the last change.

        Raises:
            StretchError: if there is none, or as ``change``.
        """
        kept = self.history.last
        if kept is None:
            raise EngineError("There is no change of the cache to undo.")
        if kept.settings.n_ctx < self._conversation.n_needed:
            raise ContextFullError(
                f"The conversation has grown to {words.tokens(self._conversation.n_needed)} and no longer "
                f"fits in the {kept.settings.n_ctx:,} from before the change."
            )
        return self._run(id, kept.settings, self._must_reprefill(False), kept, remember=False)

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
            tokens = list(self._conversation.tokens)
            if reprefill or not tokens:
                state = None
                self._reread(id, wanted, free_first=needs.through_file)
            elif needs.through_file:
                state = self._through_file(wanted, exact)
            else:
                state = self._side_by_side(wanted, exact, needs)
        finally:
            self.active = False
        trim_heap()
        n_exact = exact.n_exact(tokens) if exact is not None else 0
        if remember:
            self.history.push(Kept(old.settings, tokens, state))
        else:
            self.history.pop()
        seconds = perf_counter() - began
        read_again = reprefill and bool(tokens)
        said = changed(old, self.cache, len(tokens), read_again, n_exact)
        return self._changed(id, old, seconds, read_again, said)

    def _side_by_side(
        self, wanted: CacheSettings, exact: Kept | None, needs: Needs
    ) -> NDArray[np.uint8] | None:
        """Both contexts at once. Returns the old state if it is in a file and so can be kept."""
        in_file = needs.state <= states.disk_room()
        data = self._save(states.in_file if in_file else states.in_memory)
        room = states.in_file if needs.new_in_file else states.in_memory
        moved = self._transcode(data, wanted, exact, room, consume=not in_file)
        cache = self._open_with(wanted, moved)
        self._adopt(cache)
        return data if in_file else None

    def _through_file(self, wanted: CacheSettings, exact: Kept | None) -> NDArray[np.uint8]:
        """Free the old context before the new one is made."""
        data = self._save(states.in_file)
        moved = self._transcode(data, wanted, exact, states.in_file, consume=False)
        old = self.cache
        old.close()
        try:
            cache = self._open_with(wanted, moved)
        except StretchError as error:
            self._go_back(old.settings, data, error)
            raise
        self.cache = cache
        self._conversation.move_to(cache.context)
        return data

    def _go_back(self, settings: CacheSettings, data: NDArray[np.uint8], reason: StretchError) -> None:
        """After a failure with the old context gone: make it again from its saved state."""
        try:
            self.cache = self._open_with(settings, data)
        except StretchError:
            # Not even that: an empty cache, which the next message fills again from its text.
            self.cache = self._maker.open(settings)
            self._conversation.tokens.clear()
        self._conversation.move_to(self.cache.context)
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
        if exact is not None and exact.state is not None:
            n_exact = exact.n_exact(self._conversation.tokens)
            put_exact_rows(out, exact.state, n_exact)
        return out

    def _open_with(self, settings: CacheSettings, data: NDArray[np.uint8]) -> Cache:
        """A new context that holds ``data``, proven to.

        Raises:
            EngineError: if llama.cpp does not make it or refuses the state.
        """
        cache = self._maker.open(settings)
        try:
            taken = cache.context.load_state(data)
            if not taken or cache.context.last_position() != len(self._conversation.tokens) - 1:
                raise EngineError("llama.cpp refused the transcoded state.", "The cache is as it was before.")
            self._maker.measure(cache, read_state(data))
        except BaseException:
            cache.close()
            raise
        return cache

    def _adopt(self, cache: Cache) -> None:
        old, self.cache = self.cache, cache
        self._conversation.move_to(cache.context)
        old.close()

    def _reread(self, id: int, wanted: CacheSettings, *, free_first: bool) -> None:
        """Make an empty context and read the conversation again."""
        old, conversation = self.cache, self._conversation
        tokens = list(conversation.tokens)
        if free_first:
            old.close()
        try:
            cache = self._maker.open(wanted)
        except StretchError:
            if free_first:
                conversation.tokens.clear()
                self.cache = self._maker.open(old.settings)
                conversation.move_to(self.cache.context)
            raise
        try:
            self._maker.prove(cache)
            conversation.tokens.clear()
            conversation.move_to(cache.context)
            complete = conversation.read(id, tokens, 0, logits=False)
        except BaseException:
            self._after_failed_reread(old, cache, tokens, free_first)
            raise
        if not complete and not free_first:
            self._after_failed_reread(old, cache, tokens, free_first)
            raise EngineError("The change was stopped; the cache is as it was.")
        self.cache = cache
        if not free_first:
            old.close()

    def _after_failed_reread(self, old: Cache, new: Cache, tokens: list[int], old_is_gone: bool) -> None:
        conversation = self._conversation
        if old_is_gone:
            self.cache = new  # the only one there is; it holds what was read
            return
        conversation.tokens[:] = tokens
        conversation.move_to(old.context)
        new.close()

    # ------------------------------------------------------------------ small things

    def _same_types(self, wanted: CacheSettings) -> bool:
        now = self.cache.settings
        return (wanted.type_k, wanted.type_v) == (now.type_k, now.type_v)

    def _must_reprefill(self, asked: bool) -> bool:
        return asked or not self._transcodes

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
        )

    def _refusal(self, wanted: CacheSettings, needs: Needs) -> OutOfMemoryError:
        return self._budget.refusal(refused(wanted, min(needs.both, needs.one), needs.available), wanted)
