"""One row of the stretch table. A module of its own: the interface needs it before its first frame."""

from __future__ import annotations

from dataclasses import dataclass

from quantize.lab.loss import UNKNOWN, Loss


@dataclass(frozen=True, slots=True)
class StretchRow:
    """How far the context can stretch with one cache setting."""

    type_k: str
    type_v: str
    tail: int
    """Tokens of the exact window, 0 for none."""
    bytes_per_token: float
    kv_bytes: int
    """Size of the cache at the present length of the context."""
    max_ctx: int
    """Longest context that fits in the memory that is available now, at most the trained one."""
    max_ctx_memory: int
    """The same without regard to the trained length."""
    limit: str
    """What stops it: ``memory`` or ``trained``."""
    refused: str = ""
    """Why this setting cannot be used with this model, or empty."""
    loss: Loss = UNKNOWN
    """What it costs on this model."""

    @property
    def name(self) -> str:
        """``q8_0``, ``q8_0/q4_0``, ``tq3+256``."""
        types = self.type_k if self.type_k == self.type_v else f"{self.type_k}/{self.type_v}"
        return f"{types}+{self.tail}" if self.tail else types

    @property
    def kib(self) -> str:
        """KiB that a token takes: ``52.0``, ``1,152``."""
        kib = self.bytes_per_token / 1024
        return f"{kib:.2f}" if kib < 9.995 else f"{kib:.1f}" if kib < 999.95 else f"{kib:,.0f}"
