"""Putting a conversation's cache away in a file, and taking it out again.

The state is saved at once, which takes a moment; compressing and writing happen in a thread, while the
engine goes on with the next conversation. Whatever is wrong with a file, the worst that follows is
that the conversation is read again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from app import paths
from app.engine import states, words
from app.engine.cache import Cache, CacheMaker
from app.engine.conversation import Conversation
from app.engine.log import EngineLog
from app.engine.protocol import Event, Failed, Park, Parked, Resume, Resumed
from quantize.errors import EngineError, OutOfMemoryError, StateError, StretchError
from quantize.llama import Model
from quantize.park.auto import choose
from quantize.park.codec import Setting
from quantize.park.facts import facts_of
from quantize.park.file import ParkReader
from quantize.park.parking import ModelFacts, park, unpark
from quantize.state import SavedState, read_state

LEAST_TOKENS = 256
"""A shorter conversation is read faster than a file is opened."""


class Parking:
    """Parks and resumes for one loaded model."""

    def __init__(
        self,
        model: Model,
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
        self._maker = maker
        self._conversation = conversation
        self._log = log
        self._emit = emit
        self._obstacle = obstacle
        self._facts: ModelFacts | None = None
        self._thread: threading.Thread | None = None

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
        if self._conversation.pruned is not None:
            raise StateError("A conversation that was pruned is not parked.")
        tokens = list(self._conversation.tokens)
        if len(tokens) < LEAST_TOKENS:
            self._emit(Parked(command.id, command.path, len(tokens), 0, 0, 0.0, ""))
            return
        self.wait()
        facts = self.facts()
        setting = choose(command.codec, facts, command.kld)
        state = self._save(cache)
        self._thread = threading.Thread(
            target=self._write, args=(command, facts, state, tokens, setting), name="park"
        )
        self._thread.start()

    def _save(self, cache: Cache) -> SavedState:
        size = cache.context.state_size()
        room = states.in_file if size <= states.disk_room() else states.in_memory
        data = room(size)
        written = cache.context.save_state(data)
        if not written:
            raise EngineError("llama.cpp could not save the state of the conversation.")
        return read_state(data[:written])

    def _write(
        self, command: Park, facts: ModelFacts, state: SavedState, tokens: list[int], setting: Setting
    ) -> None:
        try:
            done = park(state, tokens, facts, setting, Path(command.path), conversation=command.conversation)
            assert done is not None
            self._emit(
                Parked(
                    command.id,
                    command.path,
                    done.n_tokens,
                    done.n_bytes,
                    done.f16_bytes,
                    done.seconds,
                    setting.label,
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

    def wait(self) -> None:
        """Wait until the file that is being written is complete."""
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
        try:
            tokens = self._take(Path(command.path), cache)
        except OSError:
            return Resumed(command.id, 0, 0.0, "")
        except StretchError as error:
            conversation.forget()
            self._log.write(f"not resumed: {error}")
            return Resumed(command.id, 0, 0.0, f"{error.message} It is read again with your next message.")
        seconds = perf_counter() - began
        return Resumed(
            command.id, len(tokens), seconds, f"Resumed {words.tokens(len(tokens))} in {seconds:.1f} s."
        )

    def _take(self, path: Path, cache: Cache) -> list[int]:
        """Load a file into the empty cache.

        Raises:
            OSError: if there is none.
            StretchError: if it cannot be used.
        """
        with ParkReader(path) as reader:
            if len(reader.tokens) > cache.context.n_ctx:
                raise StateError(
                    f"The parked conversation has {words.tokens(len(reader.tokens))} "
                    f"and the context room for {cache.context.n_ctx:,}."
                )
            types = self._maker.type_ids(cache.settings)
            try:
                state = unpark(reader, self.facts(), *types, states.in_memory)
            except (MemoryError, ValueError, IndexError, OverflowError) as error:
                raise StateError("The file of the parked conversation is damaged.") from error
            tokens = [int(t) for t in reader.tokens]
        if not cache.context.load_state(state.data) or cache.context.last_position() != len(tokens) - 1:
            raise StateError("llama.cpp refused the parked conversation.")
        self._conversation.hold(tokens)
        return tokens

    def find(self, wanted: list[int], cache: Cache) -> int:
        """Fill an empty cache from the parked file that shares the longest beginning with ``wanted``: the
        same system prompt, the same attached document.

        Returns:
            tokens that need not be read; 0 if no file helps.
        """
        if self._conversation.tokens or len(wanted) < LEAST_TOKENS or self._obstacle:
            return 0
        best, path = 0, None
        for file in sorted(paths.parked_dir().glob("*.park")):
            shared = self._shared(file, wanted)
            if shared > best:
                best, path = shared, file
        if path is None or best < LEAST_TOKENS:
            return 0
        try:
            self._take(path, cache)
        except (StretchError, OSError) as error:
            self._conversation.forget()
            self._log.write(f"no shared beginning: {error}")
            return 0
        n_kept, _ = self._conversation.keep(best)
        return n_kept

    def _shared(self, file: Path, wanted: list[int]) -> int:
        from app.engine.prompt import common_prefix

        try:
            with ParkReader(file) as reader:
                if reader.about.fingerprint != self.facts().fingerprint:
                    return 0
                if len(reader.tokens) > self._conversation.n_ctx:
                    return 0
                return common_prefix([int(t) for t in reader.tokens], wanted)
        except (StretchError, OSError, OutOfMemoryError):
            return 0
