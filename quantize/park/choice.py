"""Whether a group is predicted from the one below: measured, group by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from quantize.park.bases import USUAL_STEP
from quantize.park.classes import Classes
from quantize.park.codec import Job, spans
from quantize.park.importance import Importance
from quantize.park.plain import Floats, Source
from quantize.park.profile import Profile
from quantize.park.transform import Arrays, TransformCodec, code, residual


def worth_it(
    codec: TransformCodec,
    source: Source,
    job: Job,
    plain: Mapping[str, NDArray[Any]],
    predicted: Sequence[Mapping[str, NDArray[Any]]],
) -> dict[str, NDArray[Any]]:
    """The arrays among ``predicted`` that shorten the code of ``source``.

    Args:
        source: a text that the arrays do not come from.
        plain: arrays of a profile without predictions from the group below.
        predicted: for each group what replaces or joins them, empty if there is nothing below.
    """
    everything = dict(plain) | {name: a for group in predicted for name, a in group.items()}
    without, with_below = (
        Arrays(codec, replace(job, profile=Profile("", dict(a)))) for a in (plain, everything)
    )
    chain = with_below.chain()
    chosen: dict[str, NDArray[Any]] = {}
    importance = Importance(source, plain)
    for index, group in enumerate(without.groups):
        of_token = importance.classes(group.part, group.layers)
        stretches = spans(job.cells[group.part])
        told = [chain.told(index, number) for number in range(len(stretches))]
        best: tuple[int, list[Floats]] | None = None
        for arrays, known in ((without, [None] * len(told)), (with_below, told)):
            if arrays is with_below and not predicted[index]:
                continue
            size, rest = 0, []
            for span, t in zip(stretches, known, strict=True):
                classes = Classes(of_token[span.start : span.end])
                coded = code(arrays, source, index, span, classes, t, USUAL_STEP)
                size += len(coded.pack())
                rest.append(residual(arrays, index, coded, t, USUAL_STEP))
            if best is None or size < best[0]:
                best = size, rest
                if arrays is with_below:
                    chosen |= predicted[index]
        if chain.needs(index) and best is not None:
            for number, known_rest in enumerate(best[1]):
                chain.tell(index, number, known_rest)
    return chosen
