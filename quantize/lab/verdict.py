"""What the figures say: which settings are worth their bytes, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantize.lab.evaluate import Row
from quantize.lab.parked import ParkedSetting

MAX_KLD = 0.02
"""Mean KLD of a setting that is recommended: no more than 4-bit weights usually cost themselves."""
MAX_PPL_RISE = 0.01
MIN_RECALL_KEPT = 0.9
"""Share of the reference's recall."""

TIGHT_KLD = 0.1
TIGHT_PPL_RISE = 0.05
TIGHT_RECALL_KEPT = 0.75

MIN_REFERENCE_RECALL = 0.25
"""A model that finds fewer facts with an exact cache says nothing about caches."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The setting to take, and the smallest one that is still usable."""

    recommended: Row
    why: str
    tight: Row | None
    """Smaller than the recommended one; None if there is none."""
    why_tight: str


def measured(rows: Sequence[Row]) -> list[Row]:
    """Rows that have a KLD."""
    return [row for row in rows if row.kld_mean is not None]


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """Settings that no other one dominates, by size: none is as small and as close to the reference, and
    better in one of the two."""
    front: list[Row] = []
    for row in sorted(measured(rows), key=lambda r: (r.size, r.kld_mean)):
        same = front and (row.size, row.kld_mean) == (front[-1].size, front[-1].kld_mean)
        if not front or same or (row.kld_mean or 0.0) < (front[-1].kld_mean or 0.0):
            front.append(row)
    return front


def judge(rows: Sequence[Row]) -> Verdict | None:
    """The recommendation; None if the reference (the first row) was not measured."""
    if not rows or rows[0].kld_mean is None:
        return None
    reference = rows[0]
    front = pareto_front(rows)
    good = [r for r in front if _within(r, reference, MAX_KLD, MAX_PPL_RISE, MIN_RECALL_KEPT)]
    recommended = good[0] if good else reference
    tight = next(
        (r for r in front if _within(r, reference, TIGHT_KLD, TIGHT_PPL_RISE, TIGHT_RECALL_KEPT)), None
    )
    if tight is not None and tight.size >= recommended.size:
        tight = None
    return Verdict(
        recommended,
        _why(recommended, reference, bool(good)),
        tight,
        f"{_size(tight, reference)}; {_loss(tight, reference)}." if tight else "",
    )


def _within(row: Row, reference: Row, kld: float, rise: float, kept: float) -> bool:
    if row.kld_mean is None or row.kld_mean > kld or _rise(row, reference) > rise:
        return False
    if row.recall is None or not _recall_counts(reference):
        return True
    return row.recall >= kept * (reference.recall or 0.0)


def _recall_counts(reference: Row) -> bool:
    return reference.recall is not None and reference.recall >= MIN_REFERENCE_RECALL


def _rise(row: Row, reference: Row) -> float:
    return (row.ppl or 0.0) / (reference.ppl or 1.0) - 1


def _size(row: Row, reference: Row) -> str:
    share = f"{row.size / reference.size:.0%}"
    if row.kind == ParkedSetting.kind:
        return f"{share} of the size of f16, on the disk"
    return f"{share} of the memory of f16"


def _loss(row: Row, reference: Row) -> str:
    """What a setting costs, in words."""
    parts = [
        f"perplexity {_rise(row, reference):+.1%}",
        f"the same next token in {row.top1 or 0.0:.1%} of all places",
    ]
    if row.recall is not None and _recall_counts(reference):
        parts.append(
            f"{row.recall_hits} of {row.recall_asked} facts found again (f16: {reference.recall_hits})"
        )
    return ", ".join(parts)


def _why(row: Row, reference: Row, good: bool) -> str:
    if row.label == reference.label:
        if good:
            return "None of the smaller settings that were measured comes close enough to it."
        return "No other setting was measured."
    text = f"{_size(row, reference)}; {_loss(row, reference)}."
    if reference.recall is not None and not _recall_counts(reference):
        text += " This model finds few of the facts with an exact cache too, so recall did not count."
    return text
