"""An estimate of what the engine's process takes beside weights and cache.

The engine's own allocator knows the compute buffer exactly (``models.dryrun``). This formula
follows the widest place of a layer, for use where no native library may be loaded.
"""

from __future__ import annotations

from collections.abc import Callable

from models.geometry import Shape
from models.header import Header

_F32 = 4
_MASK = 2
"""Bytes per cell and token of the attention mask (f16, since flash attention is on)."""

PROCESS_BYTES = 46 << 20
"""The engine's process before it loads a model: the interpreter, llama-cpp-python, numpy."""

TOKEN_BYTES = 175
"""Per token of the vocabulary: its text and its place in two tables. Measured up to 262,000 tokens."""

MERGE_BYTES = 130
"""Per merge of a byte-pair vocabulary."""

NODE_BYTES = 850
"""Per node that the largest graph may have: the node, and its places in the scheduler's tables."""

_LARGE_GRAPHS = frozenset(
    {"bailingmoe3", "kimi-linear", "minimax-01", "nanbeige", "qwen35", "qwen35moe", "qwen3next"}
)
"""Architectures for which llama.cpp makes room for 40 nodes per token of a batch."""


def compute_formula(
    header: Header, shape: Shape, n_ubatch: int, n_outputs_max: int, window_cells: int
) -> Callable[[int], int]:
    """The compute buffer as a function of the length of the context.

    Found by comparing the dry runs of models of every architecture class: at the widest place the
    gate, the up projection and their product are alive, or the parts of a state-space layer, and
    four vectors of the stream (Gemma 3n has more streams). Embeddings per layer live to the end, and
    take four times as much while they are made. The attention mask lives all the time.

    Args:
        window_cells: cells of the cache of sliding-window layers, 0 if there are none.
    """
    n_layer = len(shape.layers)
    n_used = max(header.per_layer("expert_used_count", n_layer, 0), default=0)
    n_ff_exp = max(header.per_layer("expert_feed_forward_length", n_layer, 0), default=0)
    inner = header.integer("ssm.inner_size", 0)
    gemma3n = shape.architecture == "gemma3n"
    per_layer = n_layer * header.integer("embedding_length_per_layer_input", 256 if gemma3n else 0)
    widest = 0
    for layer in shape.layers:
        attention = 2 * (layer.n_head * layer.heads.head_dim_k + layer.heads.n_embd_k)
        recurrent = 5 * inner if layer.recurrent else 0
        widest = max(widest, 3 * layer.n_ff, 3 * n_used * n_ff_exp, attention, recurrent)
    streams = (9 if gemma3n else 4) * shape.n_embd
    per_token = _F32 * max(widest + streams + per_layer, 4 * per_layer + 3 * shape.n_embd)
    logits = _F32 * n_outputs_max * shape.n_vocab

    def size(n_ctx: int) -> int:
        tokens = min(n_ubatch, max(n_ctx, 1))
        mask = _MASK * tokens * ((n_ctx if shape.base else 0) + min(window_cells, n_ctx))
        return tokens * per_token + mask + logits

    return size


def overhead_bytes(header: Header, shape: Shape, n_ubatch: int) -> int:
    """What belongs to no tensor: the process, the vocabulary, the graph, ggml's work buffer.

    The work buffer holds the right side of the largest product in the type of the left one, at
    most two bytes per value.
    """
    n_tensors = len(header.tensors)
    n_nodes = max(1024, 8 * n_tensors)
    if shape.architecture in _LARGE_GRAPHS:
        n_nodes = max(40 * n_ubatch, 32 * n_tensors)
    widest = max((layer.n_ff for layer in shape.layers), default=0)
    work = 2 * n_ubatch * max(widest, shape.n_embd)
    vocabulary = TOKEN_BYTES * shape.n_vocab + MERGE_BYTES * header.length("tokenizer.ggml.merges")
    return PROCESS_BYTES + vocabulary + NODE_BYTES * n_nodes + work
