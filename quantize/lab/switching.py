"""How long a change of the cache's types takes: what a conversation waits for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from quantize.buffers import allocate
from quantize.errors import EngineError, StateError
from quantize.lab.setting import REFERENCE, Setting
from quantize.lab.speed import N_BATCH
from quantize.lab.subject import Subject, Workbench
from quantize.llama import Context
from quantize.state import SavedState, read_state
from quantize.transcode import transcode, transcoded_size


class SwitchTimer:
    """A conversation that was read with the reference cache, to be switched again and again."""

    def __init__(self, bench: Workbench, tokens: Sequence[int]) -> None:
        """Read ``tokens``.

        Raises:
            EngineError: if llama.cpp fails.
        """
        self._bench = bench
        self._n_ctx = len(tokens) + 1
        with self._open(REFERENCE) as subject:
            subject.read(tokens, 0)
            self._state = _save(subject)

    def _open(self, setting: Setting) -> Subject:
        return setting.open(self._bench, n_ctx=self._n_ctx, n_batch=N_BATCH)

    def switch(self, setting: Setting) -> float:
        """Seconds of one change from the reference to ``setting``: save, transcode, make the new
        context, load, free the old one.

        Raises:
            StateError: if the state of this model cannot be transcoded.
            CacheTypeError: if the model cannot have this setting.
            EngineError: if llama.cpp refuses a state.
        """
        before = self._open(REFERENCE)
        try:
            if not before.context.load_state(self._state):
                raise EngineError("llama.cpp did not take the state of the reference cache.")
            began = perf_counter()
            state = read_state(_save(before))
            with self._open(setting) as after:
                made = rewritten(self._bench, state, after.context)
                if not after.context.load_state(made):
                    raise EngineError(f"llama.cpp did not take the state as {setting.label}.")
                before.close()
                return perf_counter() - began
        finally:
            before.close()


class SwitchedSubject(Subject):
    """A cache that changes its types when the prompt was read."""

    def __init__(self, before: Subject, after: Callable[[], Subject]) -> None:
        """
        Args:
            before: what the prompt is read into. Belongs to this one from now on.
            after: makes the empty cache that goes on.
        """
        super().__init__(before.bench, before.context)
        self._after = after

    def settle(self) -> None:
        """Change the types.

        Raises:
            StateError: if the state of this model cannot be transcoded.
            EngineError: if llama.cpp refuses it.
        """
        after = self._after()
        try:
            made = rewritten(self.bench, read_state(_save(self)), after.context)
            if not after.context.load_state(made):
                raise EngineError("llama.cpp did not take the state in the new types.")
        except BaseException:
            after.close()
            raise
        self.replace(after.context)


def rewritten(bench: Workbench, state: SavedState, after: Context) -> NDArray[np.uint8]:
    """The state in the types of another context.

    Raises:
        StateError: if the state of this model cannot be transcoded.
    """
    if state.obstacle:
        raise StateError(state.obstacle)
    out = allocate(transcoded_size(state, bench.geometry, after.type_k, after.type_v))
    transcode(state, bench.geometry, after.type_k, after.type_v, out, centring=after.centring)
    return out


def _save(subject: Subject) -> NDArray[np.uint8]:
    data = allocate(subject.context.state_size())
    return data[: subject.context.save_state(data)]
