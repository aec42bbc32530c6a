"""Carrying a conversation from one context into another.

The state of the sequence is saved, transcoded and loaded into a new context on the same model;
the old context lives until the new one is proven to hold it. Where both do not fit, the state
goes through a file, the old context is freed first, and the file is the way back.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from app.engine import states
from app.engine.cache import Cache, CacheMaker, CacheSettings
from app.engine.conversation import Conversation
from app.engine.history import History, Kept, put_exact_rows
from app.engine.inbox import Inbox
from app.engine.needs import Needs
from app.engine.prompt import common_prefix
from app.engine.pruned import Pruned
from app.engine.window import WindowKeeper, window_of
from quantize import ggml
from quantize.centring import Centring, is_known, with_id
from quantize.errors import EngineError, StretchError
from quantize.native.window import Filling, Window
from quantize.prune.merge import merged
from quantize.state import SavedState, centring_of, read_state
from quantize.transcode import transcode, transcoded_size


class Mover:
    """Carries the conversation of one model.

    Attributes:
        cache: the one that holds the conversation now.
        n_window: tokens whose exact rows the last move took along.
    """

    def __init__(
        self, conversation: Conversation, maker: CacheMaker, inbox: Inbox, cache: Cache, history: History
    ) -> None:
        self.cache = cache
        self.n_window = 0
        self._conversation = conversation
        self._maker = maker
        self._inbox = inbox
        self._geometry = maker.shape.geometry()
        self._windows = WindowKeeper(maker, history)

    def carry(
        self, wanted: CacheSettings, exact: Kept | None, needs: Needs, window: Window | None
    ) -> NDArray[np.uint8] | None:
        """Take the state over into a cache of the ``wanted`` settings.

        Args:
            exact: an earlier cache that has some of the rows as they were.
            window: what the tail beside the present cache holds.

        Returns:
            The old state if it is in a file and so can be kept.

        Raises:
            StretchError: if it fails; the old cache is there as before, or (if it had to be freed and could
                not be made again) an empty one.
        """
        self.n_window = 0
        if needs.through_file:
            return self._through_file(wanted, exact, window)
        return self._side_by_side(wanted, exact, needs, window)

    def reread(self, id: int, wanted: CacheSettings, *, free_first: bool) -> None:
        """Make an empty context and read the conversation again.

        Args:
            free_first: both contexts do not fit at once.

        Raises:
            StretchError: if it fails or is stopped; as ``carry``.
        """
        self.n_window = 0
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

    def unprune(self, kept: Kept, before: NDArray[np.uint8]) -> None:
        """Bring the pruned cells back.

        Args:
            kept: the cache as it was before the prune, of the present types.
            before: its state.

        Raises:
            EngineError: if llama.cpp does not take it; the cache is then as it was.
        """
        conversation, cache = self._conversation, self.cache
        n_same = common_prefix(kept.tokens, conversation.tokens)
        now = states.save(self.cache.context, states.in_memory)
        window = window_of(cache, self._maker)
        before = self._recentred(before, cache.context.centring)
        whole = merged(read_state(before), read_state(now), n_same)
        cache.context.clear()
        if not cache.context.load_state(whole):
            cache.context.load_state(now)
            raise EngineError("llama.cpp refused the cache from before the prune.", "It is as it was.")
        if cache.tail is not None:
            self._windows.joined(cache.settings, kept, now, window, n_same, whole).fill(
                cache.tail, read_state(whole)
            )
        conversation.rewritten(kept.pruned)

    # ------------------------------------------------------------------ inside

    def _side_by_side(
        self, wanted: CacheSettings, exact: Kept | None, needs: Needs, window: Window | None
    ) -> NDArray[np.uint8] | None:
        """Both contexts at once. Returns the old state if it is in a file and so can be kept."""
        in_file = needs.state <= states.disk_room()
        data = states.save(self.cache.context, states.in_file if in_file else states.in_memory)
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
        data = states.save(self.cache.context, states.in_file)
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
        type_k, type_v = self._maker.type_ids(wanted)
        centring = self._maker.centring(wanted)
        state: SavedState = read_state(data)
        if wanted.types == self.cache.settings.types and with_id(state.centring) == centring:
            return data
        out = room(transcoded_size(state, self._geometry, type_k, type_v))
        whole = transcode(
            state,
            self._geometry,
            type_k,
            type_v,
            out,
            centring=centring,
            on_progress=lambda _done, _total: not self._inbox.stopped,
            consume=consume,
        )
        if not whole:
            raise EngineError("The change was stopped; the cache is as it was.")
        filling.write_into(read_state(out))
        if exact is not None and exact.state is not None and is_known(centring_of(exact.state)):
            n_exact = exact.n_exact(self._conversation.tokens)
            kept = self._recentred(exact.state, centring)
            put_exact_rows(out, kept, n_exact)
        return out

    def _recentred(self, data: NDArray[np.uint8], centring: Centring | None) -> NDArray[np.uint8]:
        """A state with K that lacks what ``centring`` says: the same, unless the model was calibrated
        since."""
        state = read_state(data)
        if with_id(state.centring) == centring or not state.n_cells:
            return data
        types = state.parts[0].k[0].type_id, state.parts[0].v[0].type_id
        if not ggml.row_format(types[0]).quantized:
            return data  # its rows are whole whatever the model's are
        out = states.in_memory(transcoded_size(state, self._geometry, *types))
        transcode(state, self._geometry, *types, out, centring=centring)
        return out

    def _open_with(self, settings: CacheSettings, data: NDArray[np.uint8], filling: Filling) -> Cache:
        """A new context that holds ``data``, proven to, with its window filled.

        Raises:
            EngineError: if llama.cpp does not make it or refuses the state.
        """
        cache = self._maker.open(settings)
        try:
            data = self._recentred(data, cache.context.centring)
            taken = cache.context.load_state(data)
            if not taken or cache.context.last_position() != len(self._conversation.tokens) - 1:
                raise EngineError("llama.cpp refused the transcoded state.", "The cache is as it was before.")
            state = read_state(data)
            self._maker.measure(cache, state)
            if cache.tail is not None:
                filling.fill(cache.tail, state)
                self.n_window = filling.n_exact
        except BaseException:
            cache.close()
            raise
        return cache

    def _adopt(self, cache: Cache) -> None:
        old, self.cache = self.cache, cache
        self._conversation.move_to(cache)
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
