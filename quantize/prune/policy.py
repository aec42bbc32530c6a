"""What a policy is: it says how much every token is worth to every KV head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from quantize.errors import UsageError
from quantize.prune.layer import Floats, Layer

Look = Literal["nothing", "window", "everything", "replay"]


@dataclass(frozen=True, slots=True)
class Observation:
    """What has to be read once more, with the attention added up, before a policy can score."""

    look: Look = "nothing"
    """``window``: the newest tokens; ``everything``: from the beginning; ``replay``: the text a second
    time behind itself, after a request to repeat it."""
    n_tokens: int = 0
    """Of a window."""
    n_queries: int = 0
    """Rows of Q that are kept."""


class Policy(ABC):
    """One way to judge cells. A subclass with a ``name`` joins ``POLICIES``."""

    name: ClassVar[str]
    title: ClassVar[str]
    """One line for people."""
    observation: ClassVar[Observation] = Observation()
    common_scale: ClassVar[bool] = False
    """Whether scores of different heads can be compared, as probabilities can. Matters for whole tokens."""

    def __init_subclass__(cls) -> None:
        if cls.name in POLICIES:
            raise TypeError(f"there are two policies called {cls.name}")
        POLICIES[cls.name] = cls()

    @abstractmethod
    def score(self, layer: Layer) -> Floats:
        """How much each cell is worth, shape (n_head_kv, n_cells); the highest are kept. Unless the scale
        is a common one, only the order within one head counts."""

    @property
    def needs_kernel(self) -> bool:
        """Whether it works only with the own attention kernel."""
        return self.observation.look != "nothing"


POLICIES: dict[str, Policy] = {}
"""Every policy by name."""

DEFAULT = "kvzip"
FALLBACK = "outlier"
"""The best that looks at keys and values only (``docs/pruning.md`` has the figures)."""


def policy(name: str) -> Policy:
    """The policy called ``name`` (``expected-attention`` is ``expected_attention``).

    Raises:
        UsageError: if there is none.
    """
    import quantize.prune.policies  # noqa: F401  (they register themselves)

    found = POLICIES.get(name.strip().lower().replace("-", "_"))
    if found is None:
        raise UsageError(f"There is no way to prune called {name!r}.", f"There are: {', '.join(POLICIES)}.")
    return found


def group_mean(layer: Layer) -> Floats:
    """Mean attention of each cell over the observed queries and the heads of its KV head."""
    if layer.seen is None:
        raise ValueError("this policy needs the attention of the cells")
    n = layer.seen.n_tokens * layer.seen.n_head // max(1, layer.n_head_kv)
    mean: Floats = layer.seen.total / np.float32(max(1, n))
    return mean
