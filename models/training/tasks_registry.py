"""The generators of short practice by the name that ``config.Mixture`` uses."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from models.training.chatml import Turn
from models.training.tasks import arithmetic, guide, identity, language

SHORT: dict[str, Callable[[Random], list[Turn]]] = {
    "arithmetic": arithmetic.make,
    "language": language.make,
    "guide": guide.make,
    "identity": identity.make,
}
