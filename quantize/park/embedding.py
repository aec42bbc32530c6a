"""Rows of the token embedding of a loaded model, read from its file.

What a layer keeps of a token depends most on the token itself, and the token ids are stored anyway: the
embedding is what a codec can know about a cache for nothing.
"""

from __future__ import annotations

from pathlib import Path

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.errors import StateError
from quantize.llama import Model
from quantize.tensor_file import map_tensor


class Embedding:
    """Reads rows on demand; the file is mapped, not loaded."""

    def __init__(self, model: Model) -> None:
        """
        Raises:
            StateError: if the file has no embedding that can be read.
        """
        self.n_embd = int(L.llama_model_n_embd(model.handle))
        self.n_vocab = model.n_vocab
        self._rows = self._map(model.path)

    def _map(self, path: Path) -> NDArray[np.uint8]:
        found = map_tensor(path, "token_embd.weight")
        if found is None:
            raise StateError(f"{path.name} holds no token embedding.")
        self._format, data = found
        if self._format.row_size(self.n_embd) * self.n_vocab != data.size:
            raise StateError(f"The token embedding of {path.name} has an unusual shape.")
        return data.reshape(self.n_vocab, -1)

    def rows(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        """Embeddings of ``tokens`` divided by their root mean square, as the first norm of a layer does.

        Shape (len(tokens), n_embd). A token outside of the vocabulary has zeros.
        """
        known = (tokens >= 0) & (tokens < self.n_vocab)
        raw = np.ascontiguousarray(self._rows[np.where(known, tokens, 0)])
        values = np.empty((len(tokens), self.n_embd), np.float32)
        ggml.dequantize(self._format, raw.reshape(-1), values)
        values /= np.sqrt(np.mean(values * values, axis=1, keepdims=True) + 1e-6)
        values[~known] = 0
        return values
