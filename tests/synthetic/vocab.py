"""A small byte-level BPE vocabulary and a ChatML template: any text becomes tokens and comes back."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
"""Ids 0, 1 and 2. ``<|im_end|>`` ends a reply; there is no BOS token."""
END = 2

NORMAL_TYPE, CONTROL_TYPE, UNUSED_TYPE = 1, 3, 5
"""``llama_token_type`` in llama.cpp."""

_TEXT = (
    "the cache of a model holds a key and a value for every token that it has read, so a longer text "
    "needs more memory. there is a number for each layer and each head. when the memory is full the "
    "context ends, and then the user has to choose: a smaller type, a shorter text or another model. "
    "a person who asks what the answer is wants one sentence that says it and the reason for it. "
)
_SMALLEST = len(SPECIAL) + 256


def _byte_letters() -> dict[int, str]:
    """GPT-2's printable letter for each byte."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {b: chr(b) for b in kept}
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + len(letters) - len(kept))
    return letters


def _learn(n_merges: int) -> list[tuple[str, str]]:
    """Byte pair encoding of the text above: the ``n_merges`` most frequent pairs (or all there are)."""
    letters = _byte_letters()
    words = Counter(_TEXT.replace(" ", "\n ").split("\n"))
    split = {w: [letters[b] for b in w.encode()] for w in words if w}
    merges: list[tuple[str, str]] = []
    while len(merges) < n_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in split.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        for parts in split.values():
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = ["".join(best)]
                i += 1
    return merges


def make_vocab(n_vocab: int) -> tuple[list[str], list[int], list[str]]:
    """Tokens, token types and merges of a vocabulary of ``n_vocab`` (at least 259) entries.

    What the learnt merges do not fill is unused tokens.
    """
    if n_vocab < _SMALLEST:
        raise ValueError(f"a byte-level vocabulary has at least {_SMALLEST} tokens, not {n_vocab}")
    letters = _byte_letters()
    merges = _learn(n_vocab - _SMALLEST)
    tokens = [*SPECIAL, *(letters[b] for b in range(256)), *("".join(m) for m in merges)]
    types = [CONTROL_TYPE] * len(SPECIAL) + [NORMAL_TYPE] * (len(tokens) - len(SPECIAL))
    n_unused = n_vocab - len(tokens)
    tokens += [f"<|unused{i}|>" for i in range(n_unused)]
    types += [UNUSED_TYPE] * n_unused
    return tokens, types, [f"{a} {b}" for a, b in merges]
