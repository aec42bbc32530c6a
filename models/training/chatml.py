"""Conversations as ChatML token streams, with a weight for every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Special tokens, in the order of their ids: padding and end of a document, start and end of a turn."""

Part = tuple[str, bool]
"""A piece of a message and whether its words are learned."""


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
    parts: tuple[Part, ...] = ()
    """The text in pieces, where some of it is learned and some is not; empty if ``learn`` holds for all.
    A piece must end where every tokenizer ends a word: behind a line break, or before a space."""


def encode_chat(turns: list[Turn], encoder: Encoder, weight: int = 1) -> tuple[list[int], list[int]]:
    """Tokens and, for each, how much it counts when the model is trained to predict it.

    An assistant's words count ``weight``, other learned words 1, and what is only read 0. The end of a turn
    counts like an assistant's words; role headers never count.
    """
    tokens: list[int] = []
    weights: list[int] = []
    for turn in turns:
        mine = weight if turn.role == "assistant" else 1
        head = [1, *encoder.encode(turn.role + "\n")]
        tokens += head
        weights += [0] * len(head)
        for text, learn in turn.parts or ((turn.text, turn.learn),):
            body = encoder.encode(text)
            tokens += body
            weights += [mine * learn] * len(body)
        line_break = encoder.encode("\n")
        tokens += [2, *line_break]
        weights += [mine * (turn.learn and turn.role == "assistant"), *([0] * len(line_break))]
    return tokens, weights


def encode_document(text: str, encoder: Encoder) -> tuple[list[int], list[int]]:
    """A plain text and its end."""
    tokens = [*encoder.encode(text), 0]
    return tokens, [1] * len(tokens)
