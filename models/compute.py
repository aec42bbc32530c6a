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


def compute_bytes(
    header: Header, shape: Shape, n_ubatch: int, n_outputs_max: int, window_cells: int
) -> Callable[[int], int]:
    """The compute buffer as a function of the length of the context.

    Found by comparing the dry runs of models of every architecture class: at the widest place the
    gate, the up projection and their product are alive, or the parts of a state-space layer, and
    four vectors of the stream. The attention mask lives all the time.

    Args:
        window_cells: cells of the cache of sliding-window layers, 0 if there are none.
    """
    n_used = max(header.per_layer("expert_used_count", len(shape.layers), 0), default=0)
    n_ff_exp = max(header.per_layer("expert_feed_forward_length", len(shape.layers), 0), default=0)
    inner = header.integer("ssm.inner_size", 0)
    per_layer = header.integer(
        "embedding_length_per_layer_input", 256 if shape.architecture == "gemma3n" else 0
    )
    widest = 0
    for layer in shape.layers:
        attention = 2 * (layer.n_head * layer.heads.head_dim_k + layer.heads.n_embd_k)
        recurrent = 5 * inner if layer.recurrent else 0
        widest = max(widest, 3 * layer.n_ff, 3 * n_used * n_ff_exp, attention, recurrent)
    per_token = _F32 * (widest + 4 * shape.n_embd + 2 * per_layer * len(shape.layers))
    logits = _F32 * n_outputs_max * shape.n_vocab

    def size(n_ctx: int) -> int:
        tokens = min(n_ubatch, max(n_ctx, 1))
        mask = _MASK * tokens * ((n_ctx if shape.base else 0) + min(window_cells, n_ctx))
        return tokens * per_token + mask + logits

    return size


def overhead_bytes(shape: Shape) -> int:
    """What belongs to no tensor: the interpreter, the libraries, the vocabulary, the graph."""
    return PROCESS_BYTES + 400 * shape.n_vocab
