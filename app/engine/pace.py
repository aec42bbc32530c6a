"""How many tokens one batch of a prefill has, so that a stop is obeyed in time.

llama.cpp looks at its stop flag before every node of the graph. The longest nodes are the product
with the largest weight matrix and the attention of one layer, whose cost grows with the tokens
before it. Both are estimated from the shape of the model and the number of threads, never from a
clock: the same conversation is always cut into the same batches, so that the same seed gives the
same reply.
"""

from __future__ import annotations

from models.geometry import Shape
from models.header import Header

LONGEST_NODE = 0.030
"""Seconds that one node may take; a stop is to be obeyed within 50 ms."""

MIN_BATCH_TILED = 64
"""Shorter batches are not computed in tiles, which takes half as long again."""

MIN_BATCH = 32

MATRIX_FLOPS = 25e9
"""Operations per second of one thread in a matrix product: of an ordinary laptop, not of the best."""

TILED_ATTENTION_FLOPS = 30e9
"""The same in an attention over f16 or f32, or with Stretch's own kernel."""

ROW_ATTENTION_FLOPS = 5e9
"""The same where llama.cpp unpacks the rows of the cache again for each query."""


def largest_product(header: Header, shape: Shape) -> int:
    """Weights that the most expensive matrix product of a layer uses per token."""
    n_expert = header.integer("expert_count", 0)
    n_used = max(1, *header.per_layer("expert_used_count", len(shape.layers), 0))
    largest = 0
    for tensor in header.tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) > 1:
            n = tensor.n_elements
            if len(tensor.shape) > 2 and n_expert:
                n = n * n_used // n_expert
            largest = max(largest, n)
    return largest


class Pace:
    """The sizes of the batches of one model."""

    def __init__(self, header: Header, shape: Shape, n_threads: int) -> None:
        self._matrix_flops = 2 * largest_product(header, shape)
        # Scores and their sum over V: two products of 2 operations per value and cell.
        self._attention_flops = max(
            2 * layer.n_head * (layer.heads.head_dim_k + layer.heads.head_dim_v) for layer in shape.layers
        )
        self._n_swa = shape.n_swa if not shape.base else 0
        self.n_threads = n_threads

    def size(self, n_past: int, n_batch: int, *, tiled: bool) -> int:
        """Tokens of the batch after ``n_past`` tokens: ``n_batch`` halved as often as necessary.

        Args:
            tiled: whether the attention is computed in tiles.
        """
        cells = min(n_past, self._n_swa) if self._n_swa else n_past
        rate = TILED_ATTENTION_FLOPS if tiled else ROW_ATTENTION_FLOPS
        least = MIN_BATCH_TILED if tiled else MIN_BATCH
        size = n_batch
        while size > least:
            matrix = size * self._matrix_flops / MATRIX_FLOPS
            attention = size * (cells + size) * self._attention_flops / rate
            if max(matrix, attention) <= LONGEST_NODE * self.n_threads:
                break
            size = max(size // 2, least)
        return size
