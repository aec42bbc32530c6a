"""How many tokens one batch of a prefill may have, so that a stop is obeyed in time.

llama.cpp looks at its stop flag before every node of the graph. The longest node is a product
with one weight matrix, about a third of a layer's time, or the attention of one layer, whose time
grows with the tokens before it. Both follow from the time of whole batches.
"""

from __future__ import annotations

LONGEST_NODE = 0.030
"""Seconds that one node may take; a stop is to be obeyed within 50 ms."""

MIN_BATCH = 32
MATRIX_SHARE = 0.35
"""Largest part of a layer's time that one matrix product takes."""


class Pace:
    """Watches batches go by and says how large the next one may be."""

    def __init__(self, n_layer: int, n_batch: int) -> None:
        self._n_layer = max(1, n_layer)
        self._n_batch = n_batch
        self._shallow = float("inf")  # seconds per token where attention costs little
        self.size = min(n_batch, 128)
        """Tokens of the next batch."""

    def measured(self, n_tokens: int, seconds: float) -> None:
        """A batch of ``n_tokens`` took ``seconds``."""
        if n_tokens < MIN_BATCH:
            return
        per_token = seconds / n_tokens
        self._shallow = min(self._shallow, per_token)
        node = max(self._shallow * MATRIX_SHARE, per_token - self._shallow) / self._n_layer
        fits = int(LONGEST_NODE / node) if node > 0 else self._n_batch
        self.size = max(MIN_BATCH, min(self._n_batch, fits // 32 * 32, self.size * 2))
