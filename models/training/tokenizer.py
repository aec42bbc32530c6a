"""Byte-level BPE with single digits, split as ``qwen2`` does, which every llama.cpp knows.

``python -m models.training.tokenizer CORPUS`` trains it and writes ``tokenizer.json`` beside this file.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

from models.training import corpus, tasks_registry
from models.training.chatml import SPECIAL

PATH = Path(__file__).with_name("tokenizer.json")
PRE = "qwen2"
"""llama.cpp's name for the regular expression below."""
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


class Tokenizer:
    """The trained tokenizer."""

    def __init__(self, path: Path = PATH) -> None:
        from tokenizers import Tokenizer as Fast

        self._fast = Fast.from_file(str(path))

    def encode(self, text: str) -> list[int]:
        """Token ids; special tokens in the text stay plain text only if they are absent from it."""
        ids: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return ids


def train(folder: Path, n_vocab: int = 8192, every: int = 3) -> None:
    """Learn the merges from one document in ``every`` and from generated conversations."""
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Fast

    def texts() -> object:
        for i, document in enumerate(corpus.read(folder)):
            if i % every == 0 and not document.held_out:
                yield document.text
        rng = Random(1)
        for _ in range(20_000):
            for make in tasks_registry.SHORT.values():
                for turn in make(rng):
                    yield turn.text

    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=20,
        show_progress=False,
    )
    fast.train_from_iterator(texts(), trainer)
    fast.save(str(PATH))


if __name__ == "__main__":
    train(Path(sys.argv[1]))
