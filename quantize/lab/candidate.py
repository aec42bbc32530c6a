"""A setting with its price: what the planner knows about it before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantize.lab.setting import Setting


@dataclass(frozen=True, slots=True)
class Candidate:
    """One setting for one model."""

    setting: Setting
    bits_k: float
    """Bits per value of K, scales and norms included."""
    bits_v: float
    bytes_per_token: float
    """What each further token costs, all metadata included."""
    kv_bytes: int
    """The whole cache at the measured length, window included."""
    tail_bytes: int
    """The window in it."""
    context_bytes: int
    """Memory to open it for the measurement: cache, window, compute buffer and logits."""
    refused: str = ""
    """Why the model cannot have it, in one sentence; empty if it can."""


def in_groups(candidates: Sequence[Candidate], room: int, most: int = 4) -> list[list[Candidate]]:
    """Settings that are measured side by side: as many as fit into ``room`` bytes, in their order."""
    groups: list[list[Candidate]] = []
    taken = 0
    for candidate in candidates:
        fits = taken + candidate.context_bytes <= room
        if groups and fits and len(groups[-1]) < most:
            groups[-1].append(candidate)
            taken += candidate.context_bytes
        else:
            groups.append([candidate])
            taken = candidate.context_bytes
    return groups
