"""How many tokens are read at once where every token's logits are wanted."""

from __future__ import annotations

LOGIT_BYTES = 48 << 20
"""Most bytes of logits that one cache keeps: what a batch has of them."""
MAX_BATCH = 512
MIN_BATCH = 16


def batch_size(n_vocab: int) -> int:
    """Tokens that are read at once: 512, fewer for a large vocabulary."""
    n = LOGIT_BYTES // (4 * max(n_vocab, 1))
    return max(MIN_BATCH, min(MAX_BATCH, n // 16 * 16))
