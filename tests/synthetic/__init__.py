"""Small GGUF models with seeded random weights, one maker per architecture.

They load and decode in the real engine in milliseconds, hold a byte-level tokenizer and a chat
template, and cost a fraction of a second to make. In a test::

    def test_something(synthetic):
        path = synthetic("llama", head_dim=128, n_head=4, n_head_kv=1)

The same parameters give the same file, made once per session; never write to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.synthetic import recurrent, sliding, transformer

MAKERS: dict[str, Callable[..., Path]] = {
    "llama": transformer.llama,
    "mistral": transformer.mistral,
    "qwen2": transformer.qwen2,
    "qwen2vl": transformer.qwen2vl,
    "qwen3": transformer.qwen3,
    "phi3": transformer.phi3,
    "bitnet": transformer.bitnet,
    "deepseek2": transformer.deepseek2,
    "gemma2": sliding.gemma2,
    "gemma3": sliding.gemma3,
    "gemma3n": sliding.gemma3n,
    "gemma4": sliding.gemma4,
    "gpt-oss": sliding.gpt_oss,
    "cohere2": sliding.cohere2,
    "olmo2": sliding.olmo2,
    "mamba": recurrent.mamba,
    "granitehybrid": recurrent.granitehybrid,
    "falcon-h1": recurrent.falcon_h1,
    "lfm2": recurrent.lfm2,
    "qwen35": recurrent.qwen35,
}
"""Makers by architecture, or by variant where one architecture has several layouts."""

MORE: dict[str, Callable[..., Path]] = {
    "smollm3": transformer.smollm3,
    "mistral3": transformer.mistral3,
    "huge_bias_qwen2": transformer.huge_bias_qwen2,
}
"""Makers of architectures that keep their cache like one of the above."""


class SyntheticModels:
    """Makes models on demand below one directory and remembers them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, name: str = "llama", **parameters: Any) -> Path:
        """The model ``name`` with these parameters (see its maker for their names)."""
        text = repr(sorted(parameters.items()))
        path = self.directory / f"{name}-{hashlib.sha1(text.encode()).hexdigest()[:12]}.gguf"
        if not path.exists():
            (MAKERS | MORE)[name](path.with_suffix(".part"), **parameters).rename(path)
        return path
