"""The shape of a model's KV cache: which layers have one, and how their heads are cut.

A saved state holds rows without saying where one head ends and the next begins; this says it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class LayerHeads:
    """The KV heads of one layer."""

    head_dim_k: int
    """Values of one head of K."""
    head_dim_v: int
    n_head_kv: int

    @property
    def n_embd_k(self) -> int:
        """Values of one row of K."""
        return self.head_dim_k * self.n_head_kv

    @property
    def n_embd_v(self) -> int:
        """Values of one row of V."""
        return self.head_dim_v * self.n_head_kv


@dataclass(frozen=True, slots=True)
class Geometry:
    """The caches of a model in the order in which a saved state holds them."""

    parts: tuple[tuple[LayerHeads, ...], ...]
    """One tuple of layers, or two for a model with a sliding window: the layers that see
    everything, then those with the window. Only layers that store K and V of their own."""
    first: LayerHeads
    """Layer 0 of the model: llama.cpp decides by its head sizes whether it rotates."""
    layers: tuple[tuple[int, ...], ...] = ()
    """Per part the numbers of its layers in the model; () for counted from 0 in each part, as they are in a
    model with one cache where every layer has one."""

    def number(self, part: int, index: int) -> int:
        """What llama.cpp calls the layer at ``index`` of a part."""
        return self.layers[part][index] if self.layers else index

    @classmethod
    def uniform(cls, n_layer: int, head_dim_k: int, head_dim_v: int, n_head_kv: int) -> Self:
        """A model without a sliding window whose layers are all alike."""
        layer = LayerHeads(head_dim_k, head_dim_v, n_head_kv)
        return cls(((layer,) * n_layer,), layer)

    @classmethod
    def sliding(cls, layers: Iterable[tuple[LayerHeads, bool]]) -> Self:
        """A model with a sliding window: all its layers in order, each with whether it slides."""
        both = list(layers)
        base = tuple(heads for heads, slides in both if not slides)
        window = tuple(heads for heads, slides in both if slides)
        numbers = tuple(tuple(i for i, (_, s) in enumerate(both) if s is slides) for slides in (False, True))
        return cls((base, window), both[0][0], numbers)
