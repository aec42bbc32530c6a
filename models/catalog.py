"""Models worth trying: the curated list, with how far their context would stretch on a machine.

The list is ``catalog.toml``. From the facts in it a header is made that the planner takes like any
other, so a stretch table is there before anything was fetched. It is an estimate: the sizes of some
files are rounded, and only the file's own header tells how its weights are stored.

Usage::

    for model in catalog():
        rows = model.planner().stretch_table(n_ctx=8192, budget=memory().available)
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from models.cpu import CpuFeatures
from models.gguf_cursor import Skipped, Value
from models.header import Header, Tensor
from models.plan import Planner
from models.tensor_types import TENSOR_TYPES

TIERS = (8, 16, 32)
"""Memory of a computer in GB for which models are recommended."""

_BODY: dict[str, tuple[tuple[str, float], ...]] = {
    "q4_k_m": (("q4_k", 0.7), ("q6_k", 0.3)),
}
"""Shares of tensor types in the layers of a mixed file, in bytes; other kinds are of one type."""

_EMBEDDING = {"q4_k_m": "q6_k", "q4_0": "q6_k", "mxfp4": "q8_0"}
"""Type of the token embedding where it is another one."""

_TYPES = {t.name: t for t in TENSOR_TYPES.values()}


@dataclass(frozen=True)
class CatalogModel:
    """One model of the list."""

    name: str
    """For the eye."""
    repo: str
    """``owner/name`` on the hub."""
    file: str
    """The exact file: other files of the repository may not run."""
    tier: int
    """GB of memory of a computer on which it runs comfortably; one of ``TIERS``."""
    n_bytes: int
    """Size of the file."""
    about: bool
    """Whether the size is rounded."""
    license: str
    """The hub's name for it."""
    weights: str
    """Type of most weights."""
    sentence: str
    """What to expect of it."""
    architecture: str
    n_vocab: int
    keys: dict[str, Any]
    """Metadata below the architecture's prefix, as far as memory depends on it."""

    @property
    def address(self) -> str:
        """``owner/name/file``: what ``stretch pull`` takes."""
        return f"{self.repo}/{self.file}"

    def header(self) -> Header:
        """A header like that of the file: enough for a plan, not for loading.

        One tensor stands for each kind of weights.
        """
        metadata: dict[str, Value] = {
            "general.architecture": self.architecture,
            "general.name": self.name,
            "general.license": self.license,
            "tokenizer.ggml.tokens": Skipped(self.n_vocab),
        }
        metadata |= {f"{self.architecture}.{key}": value for key, value in self.keys.items()}
        tensors = _weights(self.n_bytes, self.weights, self.keys, self.n_vocab)
        return Header(
            name=self.file,
            version=3,
            metadata=metadata,
            tensors=tensors,
            data_offset=0,
            alignment=32,
            file_bytes=self.n_bytes,
            by_name={t.name: t for t in tensors},
        )

    def planner(self, *, cpu: CpuFeatures | None = None, repack: bool = True) -> Planner:
        """An estimate of what the model takes and how far its context stretches."""
        return Planner(self.header(), cpu=cpu, repack=repack)


def _weights(n_bytes: int, kind: str, keys: dict[str, Any], n_vocab: int) -> tuple[Tensor, ...]:
    """Tensors of ``n_bytes`` together: the embeddings (looked up), the layers (multiplied), a last norm.

    The norm counts: llama.cpp keeps the file mapped up to the last tensor that it uses in place.
    """
    n_embd = keys["embedding_length"]
    sizes: list[tuple[str, str, int]] = []
    embedding = _EMBEDDING.get(kind, kind)
    for name, type_name, width in (
        ("token_embd", embedding, n_embd),
        ("per_layer_token_embd", kind, keys.get("embedding_length_per_layer_input", 0) * keys["block_count"]),
    ):
        if width:
            t = _TYPES[type_name]
            sizes.append((name, type_name, n_vocab * width // t.block_size * t.type_size))
    left = max(n_bytes - sum(size for *_, size in sizes), n_bytes // 4)
    sizes += [(f"blk.0.{name}", name, round(left * share)) for name, share in _BODY.get(kind, ((kind, 1.0),))]
    sizes.append(("output_norm", "f32", 4 * n_embd))
    tensors: list[Tensor] = []
    place = 0
    for name, type_name, size in sizes:
        tensors.append(Tensor(f"{name}.weight", (n_embd, 256), _TYPES[type_name].id, place, size))
        place += size
    return tuple(tensors)


@cache
def catalog() -> tuple[CatalogModel, ...]:
    """Every model of the list: by tier, the first choices of each tier first."""
    listed = tomllib.loads(files("models").joinpath("catalog.toml").read_text(encoding="utf-8"))
    return tuple(_model(entry) for entry in listed["model"])


def _model(entry: dict[str, Any]) -> CatalogModel:
    gb = entry.pop("gb")
    return CatalogModel(n_bytes=round(gb * 1e9), about=entry.pop("about", False), **entry)
