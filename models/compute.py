"""An estimate of what the engine's process takes beside weights and cache.

The engine's own allocator knows the compute buffer exactly (``models.dryrun``). This formula
follows the largest step of a layer, for use where no native library may be loaded.
"""

from __future__ import annotations

from collections.abc import Callable

from models.geometry import Shape
from models.header import Header

_F32 = 4
_MASK = 2
"""Bytes per cell and token of the attention mask (f16, since flash attention is on)."""

PROCESS_BYTES = 64 << 20
"""The interpreter with llama-cpp-python and numpy loaded."""


def compute_bytes(header: Header, shape: Shape, n_ubatch: int, n_outputs_max: int) -> Callable[[int], int]:
    """The compute buffer as a function of the length of the context."""
    n_used = max(header.per_layer("expert_used_count", len(shape.layers), 0))
    n_ff_exp = header.integer("expert_feed_forward_length", 0)
    widest = 0
    for layer in shape.layers:
        ff = max(3 * layer.n_ff, n_used * (3 * n_ff_exp + shape.n_embd))
        attention = 2 * layer.n_head * layer.heads.head_dim_k + 2 * layer.heads.n_embd_k
        widest = max(widest, ff, attention)
    per_token = _F32 * (widest + 5 * shape.n_embd)
    logits = _F32 * n_outputs_max * shape.n_vocab
    has_full = any(x.stores_kv and not x.slides for x in shape.layers)

    def size(n_ctx: int) -> int:
        tokens = min(n_ubatch, max(n_ctx, 1))
        mask = _MASK * tokens * n_ctx if has_full else 0
        return tokens * per_token + mask + logits

    return size


def overhead_bytes(shape: Shape) -> int:
    """What belongs to no tensor: the interpreter, the libraries, the vocabulary, the graph."""
    return PROCESS_BYTES + 400 * shape.n_vocab
