"""Conversations as ChatML token streams, with a weight for every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Special tokens, in the order of their ids: padding and end of a document, start and end of a turn."""


class Encoder(Protocol):
    """What is needed of a tokenizer."""

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Turn:
    """One message."""

    role: str
    text: str
    learn: bool = True
    """Whether the words of this message are learned, or only read."""


def encode_chat(turns: list[Turn], encoder: Encoder) -> tuple[list[int], list[bool]]:
    """Tokens and, for each, whether the model is trained to predict it.

    The end of a turn is always learned with an assistant's words; role headers never are.
    """
    tokens: list[int] = []
    learn: list[bool] = []
    for turn in turns:
        head = [1, *encoder.encode(turn.role + "\n")]
        body = encoder.encode(turn.text)
        tokens += [*head, *body, 2, *encoder.encode("\n")]
        learn += (
            [False] * len(head) + [turn.learn] * len(body) + [turn.learn and turn.role == "assistant", False]
        )
    return tokens, learn


def encode_document(text: str, encoder: Encoder) -> tuple[list[int], list[bool]]:
    """A plain text and its end."""
    tokens = [*encoder.encode(text), 0]
    return tokens, [True] * len(tokens)
