"""How long a change of the cache's types takes: what a conversation waits for."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from quantize.buffers import allocate
from quantize.errors import EngineError, StateError
from quantize.lab.setting import REFERENCE, Setting
from quantize.lab.speed import N_BATCH
from quantize.lab.subject import Subject, Workbench
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
            made = self._rewritten(read_state(_save(before)), setting)
            with self._open(setting) as after:
                if not after.context.load_state(made):
                    raise EngineError(f"llama.cpp did not take the state as {setting.label}.")
                before.close()
                return perf_counter() - began
        finally:
            before.close()

    def _rewritten(self, state: SavedState, setting: Setting) -> NDArray[np.uint8]:
        if state.obstacle:
            raise StateError(state.obstacle)
        bench = self._bench
        types = setting.pair.type_ids(bench.head_dims_k, bench.head_dims_v)
        out = allocate(transcoded_size(state, bench.geometry, *types))
        transcode(state, bench.geometry, *types, out)
        return out


def _save(subject: Subject) -> NDArray[np.uint8]:
    data = allocate(subject.context.state_size())
    return data[: subject.context.save_state(data)]
