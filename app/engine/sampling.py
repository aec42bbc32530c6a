"""How the next token is chosen: llama.cpp's own chain of samplers, set up from ``Sampling``."""

from __future__ import annotations

import secrets
from types import TracebackType
from typing import Self

import llama_cpp.llama_cpp as L

from app.engine.protocol import Sampling
from quantize.llama import Context

PENALTY_WINDOW = 64
"""Newest tokens that the repeat penalty looks at (llama.cpp's default)."""


class Sampler:
    """A chain of samplers with its random state. It survives a change of the cache as it is."""

    def __init__(self, sampling: Sampling, n_vocab: int) -> None:
        self.seed = sampling.seed if sampling.seed >= 0 else secrets.randbits(31)
        self._chain = L.llama_sampler_chain_init(L.llama_sampler_chain_default_params())
        for sampler in _samplers(sampling, self.seed & 0xFFFFFFFF, n_vocab):
            L.llama_sampler_chain_add(self._chain, sampler)

    def sample(self, context: Context) -> int:
        """Choose a token from the last logits; it counts for the repeat penalty from now on."""
        return int(L.llama_sampler_sample(self._chain, context.handle, -1))

    def accept(self, tokens: list[int]) -> None:
        """Let ``tokens`` (the end of the prompt) count for the repeat penalty."""
        for token in tokens[-PENALTY_WINDOW:]:
            L.llama_sampler_accept(self._chain, token)

    def close(self) -> None:
        if self._chain:
            L.llama_sampler_free(self._chain)
            self._chain = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _samplers(sampling: Sampling, seed: int, n_vocab: int) -> list[object]:
    """llama.cpp's usual order: penalties, top-k, top-p, min-p, temperature, draw."""
    chain: list[object] = []
    if sampling.repeat_penalty != 1.0:
        chain.append(
            L.llama_sampler_init_penalties(n_vocab, PENALTY_WINDOW, sampling.repeat_penalty, 0.0, 0.0)
        )
    if sampling.temperature <= 0:
        return [*chain, L.llama_sampler_init_greedy()]
    if sampling.top_k > 0:
        chain.append(L.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p < 1:
        chain.append(L.llama_sampler_init_top_p(sampling.top_p, 1))
    if sampling.min_p > 0:
        chain.append(L.llama_sampler_init_min_p(sampling.min_p, 1))
    chain.append(L.llama_sampler_init_temp(sampling.temperature))
    chain.append(L.llama_sampler_init_dist(seed))
    return chain
