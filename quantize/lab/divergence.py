"""How far the answers with one cache are from those with another, token by token.

For every token i of a text the model gives a distribution of the next one: p_i with the reference cache,
q_i with the other. With t the token that follows:

- KLD (Kullback-Leibler divergence)  ``sum_v p_i(v) ln(p_i(v) / q_i(v))``, in nats
- top-1: whether both have the same most likely token
- RMS of the change of probability: ``sqrt(mean_i (q_i(t) - p_i(t))^2)``
- perplexity: ``exp(mean_i -ln q_i(t))``

These are the definitions of llama.cpp's ``llama-perplexity --kl-divergence``. Sums are float64: an 8-bit
cache differs by less than float32 can add up over a large vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BLOCK_VALUES = 1 << 19
"""Values that are computed at once: some megabytes of float64."""


def log_softmax(logits: NDArray[np.float32]) -> Floats:
    """Log probabilities, float64, of logits of shape (n, n_vocab)."""
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    return x


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one setting."""

    n_tokens: int
    """Predicted tokens."""
    kld_mean: float
    kld_mean_error: float
    """Standard error of the mean."""
    kld_median: float
    kld_p99: float
    kld_p999: float
    """99.9% of the tokens have no larger KLD."""
    kld_max: float
    top1: float
    """Share of tokens with the same most likely next token."""
    rms_dp: float
    """RMS of the change of probability of the token that follows."""
    ppl: float


@dataclass
class Divergence:
    """Collects the tokens of one setting."""

    kld: list[Floats] = field(default_factory=list)
    same_top: list[NDArray[np.bool_]] = field(default_factory=list)
    change: list[Floats] = field(default_factory=list)
    log_likelihood: list[Floats] = field(default_factory=list)

    def add(self, p: Floats, q: Floats, following: NDArray[np.int64]) -> None:
        """Take some tokens in.

        Args:
            p: log probabilities of the reference, shape (n, n_vocab).
            q: those of this setting.
            following: the token that follows each of the n, shape (n,).
        """
        rows = np.arange(len(following))
        exp_p = np.exp(p)
        # A rounding error can make the sum of two equal distributions -1e-17.
        self.kld.append(np.maximum(np.einsum("ij,ij->i", exp_p, p - q), 0.0))
        self.same_top.append(p.argmax(axis=1) == q.argmax(axis=1))
        self.change.append(np.exp(q[rows, following]) - exp_p[rows, following])
        self.log_likelihood.append(q[rows, following])

    def summary(self) -> Summary:
        """The figures of all tokens so far (at least one)."""
        kld = np.concatenate(self.kld)
        n = len(kld)
        median, p99, p999 = (float(x) for x in np.quantile(kld, (0.5, 0.99, 0.999)))
        return Summary(
            n_tokens=n,
            kld_mean=float(kld.mean()),
            kld_mean_error=float(kld.std(ddof=1) / math.sqrt(n)) if n > 1 else 0.0,
            kld_median=median,
            kld_p99=p99,
            kld_p999=p999,
            kld_max=float(kld.max()),
            top1=float(np.concatenate(self.same_top).mean()),
            rms_dp=float(np.sqrt(np.square(np.concatenate(self.change)).mean())),
            ppl=float(np.exp(-np.concatenate(self.log_likelihood).mean())),
        )


def add_all(
    reference: NDArray[np.float32],
    others: Sequence[NDArray[np.float32] | None],
    following: Sequence[int],
    into: Sequence[Divergence],
    own: Divergence,
) -> None:
    """Compare one batch of logits with the reference's, a few rows at a time.

    Args:
        reference: logits of the reference, shape (n, n_vocab).
        others: those of the settings, or None for one that has none.
        following: the tokens that follow; fewer than n leave the last rows out.
        into: takes each setting's tokens.
        own: takes the reference's, compared with themselves.
    """
    step = max(1, BLOCK_VALUES // reference.shape[1])
    for first in range(0, len(following), step):
        rows = slice(first, min(first + step, len(following)))
        after = np.asarray(following[rows], np.int64)
        p = log_softmax(reference[rows])
        own.add(p, p, after)
        for logits, divergence in zip(others, into, strict=True):
            if logits is not None:
                divergence.add(p, log_softmax(logits[rows]), after)
