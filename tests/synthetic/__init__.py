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

from tests.synthetic.transformer import llama

MAKERS: dict[str, Callable[..., Path]] = {
    "llama": llama,
}
"""Makers by architecture (or by variant, where one architecture has several layouts)."""


class SyntheticModels:
    """Makes models on demand below one directory and remembers them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, name: str = "llama", **parameters: Any) -> Path:
        """The model ``name`` with these parameters (see its maker for their names)."""
        text = repr(sorted(parameters.items()))
        path = self.directory / f"{name}-{hashlib.sha1(text.encode()).hexdigest()[:12]}.gguf"
        if not path.exists():
            MAKERS[name](path.with_suffix(".part"), **parameters).rename(path)
        return path
