"""Are facts in a long text found again?

Several facts stand at several depths of a prose text. The whole text is read first; only then the
questions come, each on its own, so that no cache can know what to keep. The reply is the greedy one, and
the judgement is strict (``facts.is_right``).

A share of few questions is uncertain: Wilson's interval says how much (E. B. Wilson, JASA 22, 1927)::

    (p + z^2/2n  -+  z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from quantize.lab.facts import Fact, make_facts

Z95 = 1.959964
MAX_FACTS = 24
"""Facts of one text that ``make_facts`` can keep apart."""


@dataclass(frozen=True, slots=True)
class ChatShape:
    """A model's chat template around a text and a question, cut at the places of the two."""

    before: str
    """Up to the text."""
    between: str
    """After the text, through an acknowledgement, up to the question."""
    after: str
    """After the question, up to where the reply begins."""


@dataclass(frozen=True, slots=True)
class RecallTask:
    """What is asked."""

    n_tokens: int
    """Length of each text with its facts, about."""
    n_questions: int
    n_facts: int
    """Facts, and questions, per text."""
    chat: ChatShape
    seed: int = 0

    @property
    def n_texts(self) -> int:
        """Texts that are read."""
        return -(-self.n_questions // self.n_facts)


def recall_task_of(data: dict[str, Any]) -> RecallTask:
    """The task that ``dataclasses.asdict`` described."""
    return RecallTask(**{**data, "chat": ChatShape(**data["chat"])})


@dataclass(frozen=True, slots=True)
class HiddenFacts:
    """One text and what is hidden in it."""

    text: str
    facts: list[Fact]
    """From the beginning of the text to its end."""
    order: list[int]
    """In which they are asked."""


def hide_facts(task: RecallTask, prose: str, count: Callable[[str], int]) -> Iterator[HiddenFacts]:
    """The texts of a task: the same for the same task, whatever is measured.

    Args:
        prose: what the facts are hidden in; each text begins at another place of it.
        count: tokens of a text.
    """
    paragraphs = [p for p in prose.split("\n\n") if p.strip()] or ["..."]
    sizes: dict[int, int] = {}
    for index in range(task.n_texts):
        rng = Random(f"{task.seed} {index}")
        facts = make_facts(rng, min(task.n_facts, task.n_questions - index * task.n_facts))
        room = task.n_tokens - sum(count(f.statement) + 1 for f in facts)
        at = index * len(paragraphs) // task.n_texts
        chosen: list[str] = []
        while room > 0:
            i = at % len(paragraphs)
            if i not in sizes:
                sizes[i] = count(paragraphs[i]) + 1
            if sizes[i] > room and chosen:
                break
            room -= sizes[i]
            chosen.append(paragraphs[i])
            at += 1
        places = [round((k + rng.random()) / len(facts) * len(chosen)) for k in range(len(facts))]
        pieces: list[str] = []
        for i in range(len(chosen) + 1):
            pieces += [f.statement for f, place in zip(facts, places, strict=True) if place == i]
            pieces += chosen[i : i + 1]
        yield HiddenFacts("\n\n".join(pieces), facts, rng.sample(range(len(facts)), len(facts)))


def wilson(hits: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Lower and upper end of the 95% interval of a share of ``hits`` among ``n``."""
    if n == 0:
        return 0.0, 1.0
    p = hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)
