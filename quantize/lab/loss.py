"""What a cache setting costs on one model, in figures and in plain words.

A loss is measured (``own_loss.py``) or, before that, estimated (``models/loss_estimate.py``). Importing
this loads nothing: the interface draws with it.

The limits of the words are on the mean KLD above the floor, which is what rounding alone makes on the same
model, and on the share of next words that stay the same. ``docs/measuring.md`` shows what stands behind
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

EXACT_KLD = 0.004
"""Above the floor. Below this no text shows a difference: rounding moves real models as much."""

SMALL_KLD, SMALL_TOP1 = 0.03, 0.85
"""About what 4-bit weights cost themselves."""

VISIBLE_KLD, VISIBLE_TOP1 = 0.15, 0.72
"""Beyond this replies lose their sense, or most facts of a long text are not found again."""

T = TypeVar("T")


class Verdict(IntEnum):
    """Four words for a loss, the least first."""

    EXACT = 0
    SMALL = 1
    VISIBLE = 2
    BREAKS = 3

    @property
    def words(self) -> str:
        """For a sentence."""
        return ("as good as exact", "small loss", "visible loss", "breaks this model")[self]

    @property
    def word(self) -> str:
        """For a column: at most seven cells."""
        return ("exact", "small", "visible", "breaks")[self]


@dataclass(frozen=True, slots=True)
class Loss:
    """Of one setting on one model."""

    kld: float = -1.0
    """Mean KLD to f16 in nats; negative if nothing is known."""
    top1: float = -1.0
    """Share of tokens after which the most likely next token is the same; negative if it is not known."""
    floor: float = 0.0
    """KLD that rounding alone makes on this model."""
    measured: bool = False
    n_tokens: int = 0
    """Tokens that were compared."""

    @property
    def known(self) -> bool:
        """Whether anything is known."""
        return self.kld >= 0

    @property
    def excess(self) -> float:
        """KLD above the floor; 0 for losses that cannot be told from rounding."""
        return max(0.0, self.kld - self.floor)

    @property
    def verdict(self) -> Verdict:
        """The word for it; ``EXACT`` if nothing is known."""
        top1 = self.top1 if self.measured else 1.0  # that of an estimate follows from its KLD
        if self.excess > VISIBLE_KLD or 0 <= top1 < VISIBLE_TOP1:
            return Verdict.BREAKS
        if self.excess > SMALL_KLD or 0 <= top1 < SMALL_TOP1:
            return Verdict.VISIBLE
        return Verdict.SMALL if self.excess > EXACT_KLD else Verdict.EXACT

    @property
    def breaks(self) -> bool:
        """Whether the model is of no use with it."""
        return self.known and self.verdict == Verdict.BREAKS

    @property
    def words(self) -> str:
        """``small loss``; ``probably small loss`` for an estimate; empty if nothing is known."""
        if not self.known:
            return ""
        return self.verdict.words if self.measured else f"probably {self.verdict.words}"

    @property
    def figure(self) -> str:
        """``KLD 0.012, the next word differs in 4%``; ``KLD about 0.02, estimated``."""
        if not self.known:
            return ""
        if not self.measured:
            return f"KLD about {kld_words(self.kld)}, estimated"
        return f"KLD {kld_words(self.kld)}, the next word differs in {1 - self.top1:.0%}"

    @property
    def sentence(self) -> str:
        """``small loss (KLD 0.012, the next word differs in 4%)``; empty if nothing is known."""
        return f"{self.words} ({self.figure})" if self.known else ""

    def data(self) -> dict[str, object]:
        """For JSON."""
        return {
            "verdict": self.verdict.words if self.known else "unknown",
            "kld": round(self.kld, 6) if self.known else None,
            "top1": round(self.top1, 4) if self.top1 >= 0 else None,
            "floor": round(self.floor, 6),
            "measured": self.measured,
        }


UNKNOWN = Loss()
NO_LOSS = Loss(0.0, 1.0, measured=True)
"""Of f16, which all others are compared with."""


def kld_words(kld: float) -> str:
    """A KLD in a sentence, with two digits: ``0.0044``, ``0.012``, ``2.6``."""
    if kld <= 0:
        return "0"
    decimals = 1 if kld >= 1 else 2 if kld >= 0.1 else 3 if kld >= 0.01 else 4
    text = f"{kld:.{decimals}f}"
    return text if float(text) > 0 else f"{kld:.0e}".replace("e-0", "e-")


def least_loss_first(items: Iterable[T], loss_of: Callable[[T], Loss]) -> list[T]:
    """``items`` in the order of their loss; of those that nothing can tell apart the first stays first."""
    return sorted(items, key=lambda item: loss_of(item).excess)


def breaks_sentence(subject: str, loss: Loss) -> str:
    """``K in q4_0 breaks this model: 6% of the next words stay the same.``

    Args:
        subject: the setting, or the side of it that does it.
    """
    if not loss.measured:
        return f"{subject} probably breaks this model ({loss.figure})."
    if loss.top1 >= VISIBLE_TOP1:  # it is the KLD that says so
        other = f"the next word differs in {1 - loss.top1:.0%}"
        return f"{subject} breaks this model: {other} (KLD {kld_words(loss.kld)})."
    return f"{subject} breaks this model: {loss.top1:.0%} of the next words stay the same."


def better_sentence(label: str, kib_per_token: str, loss: Loss) -> str:
    """``q8_0/tq3 takes 10.2 KiB a token and loses nothing that you would see.``"""
    if loss.verdict <= Verdict.SMALL and loss.known:
        what = "loses nothing that you would see"
        if not loss.measured:
            what = "probably loses nothing that you would see"
        return f"{label} takes {kib_per_token} KiB a token and {what}."
    return f"{label} takes {kib_per_token} KiB a token: {loss.words or 'its loss is not known'}."
