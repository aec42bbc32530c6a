"""Reads one text into several caches side by side and compares what they answer.

Each batch is read by the reference and then by every other setting, and compared at once: no logits
outlive their batch, so a text of any length takes the same memory. Every cache holds what it wrote
itself: everything is compressed as it is written, and read compressed by the tokens that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quantize.errors import StretchError
from quantize.lab.batch import MAX_BATCH
from quantize.lab.divergence import Divergence, Summary, add_all
from quantize.lab.footprint import Footprint
from quantize.lab.subject import Subject


@dataclass(frozen=True, slots=True)
class Compared:
    """What became of one setting."""

    summary: Summary | None
    """None if it failed."""
    failed: str
    """Why, in one sentence; empty if it did not."""
    kernel: str
    """``own`` or ``stock``: what computed its attention."""
    footprint: Footprint | None = None
    """What the prompt takes, where that is known only once it was read."""


def compare(
    reference: Subject,
    others: Sequence[Subject],
    tokens: Sequence[int],
    *,
    n_prompt: int = 0,
    batch: int = MAX_BATCH,
    on_progress: Callable[[int], None] = lambda _n: None,
) -> tuple[Compared, list[Compared]]:
    """Read ``tokens`` into all of them.

    Args:
        n_prompt: tokens that are read before anything is compared; after them every subject
            settles (a setting that compresses at that moment is measured on what follows).
        batch: tokens per batch; every subject has to give so many logits.
        on_progress: called with the tokens that were read so far.

    Returns:
        the reference's own figures, and those of the others in their order. A setting that llama.cpp
        stops reading has failed; the others go on.

    Raises:
        EngineError: if the reference cannot be read.
        ValueError: if there is nothing to predict.
    """
    if len(tokens) - n_prompt < 2:
        raise ValueError("there is no token to predict")
    own = Divergence()
    into = [Divergence() for _ in others]
    failed = [""] * len(others)
    done = 0
    while done < len(tokens) - 1:  # nothing follows the last token
        prompt = done < n_prompt
        end = min(done + batch, n_prompt if prompt else len(tokens) - 1)
        chunk, wanted = tokens[done:end], "none" if prompt else "all"
        reference.read(chunk, done, wanted)
        for i, subject in enumerate(others):
            if not failed[i]:
                try:
                    subject.read(chunk, done, wanted)
                    if end == n_prompt:
                        subject.settle()
                except StretchError as error:
                    failed[i] = error.message
        if not prompt:
            add_all(
                reference.logits(len(chunk)),
                [None if f else s.logits(len(chunk)) for s, f in zip(others, failed, strict=True)],
                tokens[done + 1 : end + 1],
                into,
                own,
            )
        done = end
        on_progress(done)
    return Compared(own.summary(), "", reference.kernel), [
        Compared(None if why else d.summary(), why, s.kernel, s.footprint)
        for s, d, why in zip(others, into, failed, strict=True)
    ]
