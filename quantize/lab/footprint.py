"""What a cache takes where nobody can know before: an entropy coder has to see the text first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Footprint:
    """Measured sizes of the text that was read, everything counted that is needed to read it back."""

    bits_k: float
    """Bits per value of K."""
    bits_v: float
    bytes_per_token: float
