"""The numbers of a ROPE node of ggml, and the angles that they mean.

The formulas are those of ``ggml_compute_forward_rope_flt`` (ggml/src/ggml-cpu/ops.cpp, ggml 0.25.3), which
holds for all its backends. Every kind of scaling there multiplies the angle of a pair by a constant: the
angle is linear in the position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from quantize.rope import NO_ROPE, UNKNOWN_ROPE, Rope

NORM, NEOX, MROPE, IMROPE = 0, 2, 8, 40
"""``GGML_ROPE_TYPE_...``."""


@dataclass(frozen=True, slots=True)
class RopeParameters:
    """What ``ggml_rope_ext`` and ``ggml_rope_multi`` take, under their names there."""

    n_dims: int = 0
    """Values of a head that turn; 0 for a layer that knows no positions."""
    mode: int = NORM
    n_ctx_orig: int = 0
    freq_base: float = 10000.0
    freq_scale: float = 1.0
    ext_factor: float = 0.0
    """How much of YaRN, 0 for none."""
    attn_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    sections: tuple[int, ...] = (0, 0, 0, 0)
    """Of M-RoPE: pairs that turn by time, height, width and a fourth position."""
    offset: int = 0
    """The first value of a head that turns."""
    factors: tuple[float, ...] = ()
    """Each divides the frequency of one pair (Llama 3, LongRoPE); () for none."""
    factors_name: str = ""
    """Of their tensor."""
    known: bool = True
    """False if K is changed after it was turned, by something that is not understood."""

    def rope(self) -> Rope:
        """How a head turns as tokens of a text stand one after the other."""
        if not self.known or self.mode not in (NORM, NEOX, MROPE, IMROPE):
            return UNKNOWN_ROPE
        if not self.n_dims:
            return NO_ROPE
        pairs = np.arange(self.n_dims // 2)
        # as ggml, which multiplies by this number in float32 from pair to pair: its rounding adds up
        step = float(np.float32(self.freq_base ** (-2.0 / self.n_dims)))
        theta = step ** pairs.astype(np.float64)
        if self.factors:
            theta = theta / np.asarray(self.factors[: len(pairs)], np.float64)
        magnitude = self.attn_factor
        scaled = self.freq_scale * theta
        if self.ext_factor:
            mix = self._ramp() * self.ext_factor
            scaled = scaled * (1 - mix) + theta * mix
            magnitude *= 1 + 0.1 * math.log(1 / self.freq_scale)
        if self.mode in (MROPE, IMROPE):
            scaled = np.where(self._fourth(), 0.0, scaled)
        return Rope(tuple(scaled.tolist()), magnitude, self.mode != NORM, self.offset)

    def _ramp(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """1 for the pairs that keep their frequency, 0 for those that are scaled (YaRN, arXiv 2309.00071)."""

        def turns(n: float) -> float:
            """The pair that turns ``n`` times over the trained length."""
            return (
                self.n_dims * math.log(self.n_ctx_orig / (n * 2 * math.pi)) / (2 * math.log(self.freq_base))
            )

        low = max(0.0, math.floor(turns(self.beta_fast)))
        high = min(self.n_dims - 1.0, math.ceil(turns(self.beta_slow)))
        at = (np.arange(self.n_dims // 2) - low) / max(0.001, high - low)
        return np.asarray(1 - np.clip(at, 0, 1), np.float64)

    def _fourth(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """The pairs that turn by the fourth position, which is 0 for every token of a text; the first three
        are the token's own."""
        time, height, width, _ = self.sections
        sector = np.arange(self.n_dims // 2) % max(1, sum(self.sections))
        if self.mode == MROPE:
            return np.asarray(sector >= time + height + width)
        of_three = np.array([time, height, width])[sector % 3]
        return np.asarray(sector >= 3 * of_three)
