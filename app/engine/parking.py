"""Putting a conversation's cache away in a file, and taking it out again.

The state is saved at once, which takes a moment; compressing and writing happen in a thread, while the
engine goes on with the next conversation. Whatever is wrong with a file, the worst that follows is
that the conversation is read again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from app import paths
from app.engine import states, words
from app.engine.cache import Cache, CacheMaker
from app.engine.conversation import Conversation
from app.engine.log import EngineLog
from app.engine.protocol import Event, Failed, Park, Parked, Resume, Resumed
from app.engine.pruned import Pruned
from app.engine.vocabulary import Vocabulary
from quantize.errors import EngineError, StateError, StretchError
from quantize.llama import Model
from quantize.park.auto import choose, for_mixed_cells
from quantize.park.codec import Setting
from quantize.park.facts import facts_of
from quantize.park.file import DAMAGED, ParkReader
from quantize.park.header import BeginningError
from quantize.park.parking import Cut, ModelFacts, park, unpark
from quantize.park.shared import alike, park_shared
from quantize.state import SavedState, read_state

LEAST_TOKENS = 256
"""A shorter conversation is read faster than a file is opened."""

REACH = 64
"""A beginning is cut at a boundary if there is one within so many tokens."""

MOST_TRIES = 3
"""Files that are tried for the beginning of a new conversation."""


def _room(size: int) -> NDArray[np.uint8]:
    """For the state of a conversation that is not on the page: on the disk if it has room."""
    return states.in_file(size) if size <= states.disk_room() else states.in_memory(size)


class Parking:
    """Parks and resumes for one loaded model."""

    def __init__(
        self,
        model: Model,
        vocabulary: Vocabulary,
        maker: CacheMaker,
        conversation: Conversation,
        log: EngineLog,
        emit: Callable[[Event], None],
        *,
        obstacle: str,
    ) -> None:
        """
        Args:
            obstacle: why this model's states cannot be parked; empty if they can.
        """
        self._model = model
        self._vocabulary = vocabulary
        self._maker = maker
        self._conversation = conversation
        self._log = log
        self._emit = emit
        self._obstacle = obstacle
        self._facts: ModelFacts | None = None
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()

    def facts(self) -> ModelFacts:
        """Facts of the model; read when they are first needed, and again if it has been calibrated since."""
        if self._facts is None or self._facts.profile is None:
            try:
                geometry = self._maker.shape.geometry()
                self._facts = facts_of(self._model, geometry, paths.calibrations_dir())
            except OSError as error:
                raise EngineError(f"The model's file cannot be read: {error.strerror}.") from error
        return self._facts

    # ------------------------------------------------------------------ away

    def park(self, command: Park, cache: Cache) -> None:
        """Put the conversation away. The closing event comes when the file is complete.

        Raises:
            StretchError: if it cannot be parked.
        """
        if self._obstacle:
            raise StateError(self._obstacle)
        tokens = list(self._conversation.tokens)
        if len(tokens) < LEAST_TOKENS:
            self._emit(Parked(command.id, command.path, len(tokens), 0, 0, 0.0, ""))
            return
        self.wait()
        facts = self.facts()
        setting = choose(command.codec, facts, command.kld)
        pruned = self._conversation.pruned
        if pruned is not None and pruned.composite:
            setting = for_mixed_cells(setting)
        state = self._save(cache)
        self._hurry.clear()
        self._thread = threading.Thread(
            target=self._write, args=(command, facts, state, tokens, setting, pruned), name="park"
        )
        self._thread.start()

    def _save(self, cache: Cache) -> SavedState:
        size = cache.context.state_size()
        room = states.in_file if size <= states.disk_room() else states.in_memory
        return read_state(states.save(cache.context, room))

    def _write(
        self,
        command: Park,
        facts: ModelFacts,
        state: SavedState,
        tokens: list[int],
        setting: Setting,
        pruned: Pruned | None,
    ) -> None:
        path, owner, n_shared, shared_bytes = Path(command.path), command.conversation, 0, 0
        try:
            if pruned is not None:
                cut = Cut(pruned.n_gone, pruned.whole_from, pruned.composite)
                done = park(
                    state, tokens, facts, setting, path, conversation=owner, cut=cut, pins=command.pins
                )
                assert done is not None
            else:
                done, n_shared, shared_bytes = park_shared(
                    state,
                    tokens,
                    facts,
                    setting,
                    path,
                    _room,
                    conversation=owner,
                    pins=command.pins,
                    boundary=lambda n: self._boundary(tokens, n),
                    hurry=self._hurry.is_set,
                )
            self._emit(
                Parked(
                    command.id,
                    command.path,
                    done.n_tokens,
                    done.n_bytes + shared_bytes,
                    done.f16_bytes,
                    done.seconds,
                    setting.label,
                    n_shared,
                    shared_bytes,
                    pruned.n_gone if pruned is not None else 0,
                )
            )
        except StretchError as error:
            self._emit(Failed(command.id, type(error).__name__, error.message, error.hint))
        except OSError as error:
            reason = f"The conversation could not be parked: {error.strerror or error}."
            self._emit(Failed(command.id, "EngineError", reason, "It will be read again when you open it."))
        except Exception as error:  # a fault here must not take the engine with it
            self._log.write(f"parking failed: {error!r}")
            self._emit(Failed(command.id, "EngineError", "The conversation could not be parked.", ""))

    def _boundary(self, tokens: list[int], n: int) -> int:
        """The end of the last message or line at or shortly before ``n`` tokens: what begins so will be cut
        into the same tokens up to there."""
        control, written = self._vocabulary.control, self._vocabulary.written
        for at in range(n, max(n - REACH, 0), -1):
            if tokens[at] in control or written(tokens[at - 1]).endswith(b"\n"):
                return at
        return n

    def wait(self) -> None:
        """Wait until the file that is being written is complete. Whatever else would be made smaller has to
        wait for the next time."""
        self._hurry.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    # ------------------------------------------------------------------ back

    def resume(self, command: Resume, cache: Cache) -> Resumed:
        """Put a parked conversation into the cache. If that cannot be, the cache is empty and the answer
        says why; the conversation is then read as usual."""
        began = perf_counter()
        self.wait()
        conversation = self._conversation
        conversation.forget()
        path = Path(command.path)
        try:
            tokens, pins = self._take(path, cache)
        except OSError:
            return Resumed(command.id, 0, 0.0, "")
        except StretchError as error:
            conversation.forget()
            self._log.write(f"not resumed: {error}")
            return Resumed(command.id, 0, 0.0, f"{error.message} It is read again with your next message.")
        seconds = perf_counter() - began
        n_gone = conversation.n_gone
        left = f", pruned to {conversation.n_used:,}," if n_gone else ""
        return Resumed(
            command.id,
            len(tokens),
            seconds,
            f"Resumed {words.tokens(len(tokens))}{left} in {seconds:.1f} s.",
            n_gone,
            pins,
        )

    def _take(self, path: Path, cache: Cache) -> tuple[list[int], tuple[str, ...]]:
        """Load a file into the empty cache: its tokens and pins.

        Raises:
            OSError: if there is none.
            StretchError: if it cannot be used.
        """
        with ParkReader(path) as reader:
            about = reader.about
            n_used = about.n_tokens - about.n_gone
            if n_used > cache.context.n_ctx:
                raise StateError(
                    f"The parked conversation has {words.tokens(n_used)} "
                    f"and the context room for {cache.context.n_ctx:,}."
                )
            types = self._maker.type_ids(cache.settings)
            try:
                state = unpark(reader, self.facts(), *types, states.in_memory, cache.context.centring)
            except BeginningError as error:
                with contextlib.suppress(OSError):  # so that it is made again
                    error.path.unlink()
                raise
            except (MemoryError, ValueError, IndexError, OverflowError) as error:
                raise StateError(DAMAGED) from error
            tokens = [int(t) for t in reader.tokens]
        if about.n_gone and state.n_cells != n_used:
            raise StateError(DAMAGED)
        if not cache.context.load_state(state.data) or cache.context.last_position() != len(tokens) - 1:
            raise StateError("llama.cpp refused the parked conversation.")
        pruned = Pruned(about.whole_from, about.n_gone, about.composite) if about.n_gone else None
        self._conversation.hold(tokens, pruned)
        return tokens, reader.pins

    def find(self, wanted: list[int], cache: Cache) -> int:
        """Fill an empty cache from the parked file that shares the longest beginning with ``wanted``: the
        same system prompt, the same attached document.

        Returns:
            tokens that need not be read; 0 if no file helps.
        """
        if self._conversation.tokens or len(wanted) < LEAST_TOKENS or self._obstacle:
            return 0
        try:
            found = alike(paths.parked_dir(), wanted, self.facts())
        except (StretchError, OSError):
            return 0
        fitting = [f for f in found if f.about.n_tokens <= self._conversation.n_ctx]
        for file in fitting[:MOST_TRIES]:
            try:
                self._take(file.path, cache)
            except (StretchError, OSError) as error:
                self._conversation.forget()
                self._log.write(f"no shared beginning: {error}")
                continue
            return self._conversation.keep(file.n_common)[0]
        return 0
