"""A text whose beginning is compressed, and the answers that follow it: what a calibration measures with."""

from __future__ import annotations

from collections.abc import Sequence

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from quantize.buffers import allocate
from quantize.errors import EngineError
from quantize.llama import Context
from quantize.native.attention_mass import Watched
from quantize.park.plain import Floats
from quantize.state import SavedState, read_state


def read_text(
    context: Context, tokens: Sequence[int], watched: Watched | None = None, n_watched: int = 0
) -> SavedState:
    """The state after ``tokens``; ``watched`` keeps the queries of the newest ``n_watched``.

    Raises:
        EngineError: if llama.cpp fails.
    """
    context.clear()
    first = len(tokens) - n_watched
    at = 0
    while at < len(tokens):
        if watched is not None and at == first:
            watched.start(len(tokens), n_watched)
        end = min(len(tokens), at + context.n_batch)
        if at < first:
            end = min(end, first)
        if context.decode(list(tokens[at:end]), at, logits="none"):
            raise EngineError("llama.cpp could not read the text of the calibration.")
        at = end
    data = allocate(context.state_size())
    return read_state(data[: context.save_state(data)])


class Probe:
    """The text in an f16 cache, and what the model says after it."""

    def __init__(self, context: Context, tokens: Sequence[int], n_after: int) -> None:
        """
        Args:
            context: gives the logits of ``n_after`` tokens.
            n_after: of ``tokens`` the newest, whose answers are compared.
        """
        self._context = context
        self.before, self._after = list(tokens[:-n_after]), list(tokens[-n_after:])
        self.state = read_text(context, self.before)
        self._reference = self._answers(self.state.data)
        self._weights = np.exp(self._reference)

    def _answers(self, data: NDArray[np.uint8]) -> Floats:
        """Logarithms of the probabilities, shape (tokens, n_vocab)."""
        context = self._context
        context.clear()
        if not context.load_state(data):
            raise EngineError("llama.cpp refused a state during the calibration.")
        if context.decode(self._after, len(self.before), logits="all"):
            raise EngineError("llama.cpp could not read the text of the calibration.")
        pointer = L.llama_get_logits(context.handle)
        logits = np.ctypeslib.as_array(pointer, shape=(len(self._after), context.model.n_vocab))
        found: Floats = logits - logits.max(axis=1, keepdims=True)
        found -= np.log(np.exp(found).sum(axis=1, dtype=np.float64, keepdims=True)).astype(np.float32)
        return found

    def kld(self, data: NDArray[np.uint8]) -> float:
        """Mean KLD of the answers with the cache ``data``."""
        apart = self._reference - self._answers(data)
        return float(np.maximum(np.einsum("ij,ij->i", self._weights, apart), 0).mean())
