"""What was measured on a conversation: how far other cache settings would take it from f16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.stretch_row import StretchRow
from quantize.lab.loss import Loss as ModelLoss

Key = tuple[str, str, int]
"""Names of K and V, and the window."""


@dataclass(frozen=True, slots=True)
class Loss:
    """One setting."""

    kld: float
    """Mean KLD to f16 over the conversation's tokens, in nats."""
    top1: float
    """Share of the tokens after which the most likely next token is the same."""

    def judged(self, floor: float = 0.0) -> ModelLoss:
        """With a word for it.

        Args:
            floor: KLD that rounding alone makes on this model.
        """
        return ModelLoss(self.kld, self.top1, floor, measured=True)


@dataclass(frozen=True, slots=True)
class Losses:
    """Everything that is known now. An empty one stands for nothing."""

    by_setting: Mapping[Key, Loss] = field(default_factory=dict)
    n_tokens: int = 0
    """Tokens of the conversation that were measured."""
    measured_at: float = 0.0
    """Seconds since the epoch; 0 before the first result."""
    fraction: float = -1.0
    """How much is done; negative while nothing is measured."""
    eta_s: float = -1.0

    @property
    def running(self) -> bool:
        """Whether it is being measured now."""
        return self.fraction >= 0

    def of(self, type_k: str, type_v: str, tail: int = 0) -> Loss | None:
        """The loss of one setting, None if it was not measured. f16 is exact."""
        if self.by_setting and type_k == type_v == "f16":
            return Loss(0.0, 1.0)
        return self.by_setting.get((type_k, type_v, tail))


NOTHING = Losses()


def row_loss(row: StretchRow, losses: Losses = NOTHING) -> ModelLoss:
    """What a setting costs: on this conversation if that was measured, else on this model."""
    own = losses.of(row.type_k, row.type_v, row.tail)
    return own.judged(row.loss.floor) if own is not None else row.loss


def kld_text(kld: float) -> str:
    """A KLD in at most six cells: ``0``, ``.0001``, ``.0131``, ``.435``, ``1.88``."""
    if kld <= 0:
        return "0"
    if kld < 0.00005:
        return f"{kld:.0e}".replace("e-0", "e-")
    if kld >= 0.9995:
        return f"{kld:.2f}"
    return f"{kld:.4f}"[1:] if kld < 0.09995 else f"{kld:.3f}"[1:]


def loss_sentence(loss: Loss) -> str:
    """``Loss on this chat: KLD .0131, 92% of next tokens the same.``"""
    if loss.kld == 0:
        return "No loss: this is what the others are compared with."
    return f"Loss on this chat: KLD {kld_text(loss.kld)}, {loss.top1:.0%} of next tokens the same."
