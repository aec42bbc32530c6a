"""Points of a conversation to which a model can go back that cannot simply forget its newest tokens.

A recurrent state has no past, and a sliding window has lost what lies before it. For such models
the part of the state that cannot be cut back (all but full attention's K and V) is saved in
places where a conversation is likely to be continued differently. It goes to files without a
name.
"""

from __future__ import annotations

from dataclasses import dataclass

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from app.engine import states
from quantize.buffers import release
from quantize.errors import OutOfMemoryError
from quantize.llama import Context, Model

MAX_KEPT = 8
MAX_BYTES = 64 * 1024 * 1024
"""A larger state is not saved: writing it would be felt at every reply."""


@dataclass
class Checkpoint:
    """The state after the first ``n_tokens``."""

    n_tokens: int
    state: NDArray[np.uint8]


class Checkpoints:
    """The newest checkpoints of one conversation. They hold as long as its first tokens do."""

    def __init__(self, model: Model) -> None:
        self.needed = bool(
            L.llama_model_is_recurrent(model.handle)
            or L.llama_model_is_hybrid(model.handle)
            or L.llama_model_n_swa(model.handle)
        )
        """Whether this model may be unable to forget its newest tokens."""
        self._kept: list[Checkpoint] = []

    def __len__(self) -> int:
        return len(self._kept)

    def save(self, context: Context, n_tokens: int) -> None:
        """Remember the state after ``n_tokens``, which is the present one, if that is affordable."""
        if not self.needed or n_tokens <= 0 or any(c.n_tokens == n_tokens for c in self._kept):
            return
        size = context.state_size(partial=True)
        if not 0 < size <= MAX_BYTES:
            return
        try:
            state = states.in_file(size)
        except OutOfMemoryError:
            return
        if context.save_state(state, partial=True) == size:
            release(state, 0, size)  # it stays in its file
            self._kept.append(Checkpoint(n_tokens, state))
            del self._kept[:-MAX_KEPT]

    def restore(self, context: Context, n_keep: int) -> int:
        """Go back to the newest checkpoint within the first ``n_keep`` tokens.

        Returns:
            the tokens that ``context`` holds then; 0 if there is no checkpoint or it was refused, and
            the context must be cleared.
        """
        self.cut(n_keep)
        if not self._kept:
            return 0
        best = max(self._kept, key=lambda c: c.n_tokens)
        good = (
            context.load_state(best.state, partial=True)
            and context.remove(best.n_tokens)
            and context.last_position() == best.n_tokens - 1
        )
        return best.n_tokens if good else 0

    def cut(self, n_keep: int) -> None:
        """Only the first ``n_keep`` tokens stay: forget what lies beyond."""
        self._kept = [c for c in self._kept if c.n_tokens <= n_keep]
