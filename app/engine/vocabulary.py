"""What tokens look like: their bytes, which of them are control tokens, which end a reply."""

from __future__ import annotations

import llama_cpp.llama_cpp as L

from quantize.llama import Model

THINKING_TAGS = frozenset({b"<think>", b"</think>"})
"""Control tokens that are shown all the same: the interface folds what is between them."""

END_OF_TURN = (
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<turn|>",
    "</s>",
    "<|user|>",
    "<|im_start|>",
)
"""Marks that chat templates put after a reply. A model whose vocabulary lacks the token writes it as text."""

_UNKNOWN_OR_CONTROL = 1 | 8  # LLAMA_TOKEN_ATTR_UNKNOWN, LLAMA_TOKEN_ATTR_CONTROL


class Vocabulary:
    """Pieces of a model's vocabulary, each asked for once."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._shown: dict[int, bytes] = {}
        self._written: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}
        vocab = model.vocab
        self.control: dict[int, bytes] = {}
        """Control tokens by id, as the template writes them."""
        for token in range(model.n_vocab):
            if L.llama_vocab_get_attr(vocab, token) & _UNKNOWN_OR_CONTROL:
                self.control[token] = model.piece(token, special=True)
        self.bos: int = L.llama_vocab_bos(vocab)
        self.adds_bos: bool = bool(L.llama_vocab_get_add_bos(vocab))
        self.bos_text = self._text(self.bos)
        self.eos_text = self._text(L.llama_vocab_eos(vocab))

    def _text(self, token: int) -> str:
        return self.written(token).decode("utf-8", "replace") if token >= 0 else ""

    def shown(self, token: int) -> bytes:
        """The bytes of ``token`` that a reader should see: none for control tokens."""
        piece = self._shown.get(token)
        if piece is None:
            piece = self.control.get(token, b"")
            if piece not in THINKING_TAGS:
                piece = self._model.piece(token)
            self._shown[token] = piece
        return piece

    def written(self, token: int) -> bytes:
        """The bytes of ``token``, control tokens as the template writes them."""
        piece = self._written.get(token)
        if piece is None:
            piece = self._written[token] = self._model.piece(token, special=True)
        return piece

    def ends(self, token: int) -> bool:
        """Whether ``token`` ends a reply."""
        end = self._ends.get(token)
        if end is None:
            end = self._ends[token] = self._model.is_end(token)
        return end

    def stop_strings(self, template: str) -> tuple[str, ...]:
        """End-of-turn marks of ``template`` that this vocabulary has no token for."""
        tokens = set(self.control.values())
        return tuple(s for s in END_OF_TURN if s in template and s.encode() not in tokens)
