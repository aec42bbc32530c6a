"""Packs documents and generated conversations into training sequences, one stream per process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from random import Random

import numpy as np
from numpy.typing import NDArray

from models.training import corpus, tasks_registry
from models.training.chatml import Turn, encode_chat, encode_document
from models.training.config import Mixture
from models.training.tasks import recall
from models.training.tokenizer import Tokenizer

CHARS_PER_TOKEN = 3.6
ANSWER_WEIGHT = 2
"""How much a generated answer counts against ordinary text: there are few of them, and each is exact."""
OFTEN = {
    "google-research-datasets/dstc8-schema-guided-dialogue": 0.4,
    "google-research-datasets/Taskmaster": 0.6,
    "ConvLab/ConvLab-3": 0.6,
    "alexa/dstc11-track5": 0.6,
    "generated/templates": 0.4,
    "tldr-pages/tldr": 0.5,
    "alexa/Topical-Chat": 1.5,
    "LAION-AI/Open-Assistant": 2.0,
    "alexa/wow-plus-plus": 2.0,
    "gunthercox/chatterbot-corpus": 2.0,
    "ntulsi/BotBuilder-PersonalityChat": 2.0,
}
"""How often the documents of a source are read while the whole corpus is read once; 1 where nothing is said.
Dialogues of bookings and texts from templates are soon known by heart, free talk is rare."""
BOOKINGS = frozenset(
    {
        "google-research-datasets/dstc8-schema-guided-dialogue",
        "google-research-datasets/Taskmaster",
        "ConvLab/ConvLab-3",
        "alexa/dstc11-track5",
    }
)
"""Dialogues in which the assistant books flights and tables, which the model cannot do."""
CLERK = (
    "You work at an information desk. Help with bookings.",
    "You are a travel and booking assistant.",
    "You answer at a service desk and book what is asked for.",
    "You help people find and book hotels, tables, tickets and trips.",
)
"""What their system prompt says, so that without one nobody is promised a flight."""


class Stream:
    """Endless sequences of ``length + 1`` tokens and their weights.

    Attention is not masked between the documents of a sequence: the fast kernels know only the causal mask.
    """

    def __init__(
        self, documents: list[corpus.Document], mixture: Mixture, worker: int, workers: int, seed: int
    ) -> None:
        self.tokenizer = Tokenizer()
        self.rng = Random(f"{seed}-{worker}")
        self.prose = [d.text for d in documents if not d.is_talk and len(d.text) > 400]
        self.talks = [
            d.text for d in documents if d.is_talk and len(d.text) < 1500 and d.source not in BOOKINGS
        ]
        self.mine = documents[worker::workers]
        self.kinds = list(asdict(mixture))
        self.target = list(asdict(mixture).values())
        self.spent = [1.0] * len(self.kinds)
        self._order: list[int] = []

    def sequences(self, length: int) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.uint8]]]:
        """Sequences of one length. What does not fit is cut at the end of a sequence."""
        spent = self.spent
        while True:
            tokens: list[int] = []
            learn: list[int] = []
            while len(tokens) < length + 1:
                total = sum(spent)
                kind = max(range(len(self.kinds)), key=lambda i: self.target[i] - spent[i] / total)
                room = length + 1 - len(tokens)
                more, weights = self._next(self.kinds[kind], room)
                spent[kind] += min(len(more), room)
                tokens += more
                learn += weights
            yield np.array(tokens[: length + 1], np.uint16), np.array(learn[: length + 1], np.uint8)

    def _next(self, kind: str, room: int) -> tuple[list[int], list[int]]:
        if kind == "corpus":
            if not self._order:
                self._order = self._once_through()
            document = self.mine[self._order.pop()]
            if document.is_talk:
                turns = corpus.turns(document.text)
                if document.source in BOOKINGS:
                    turns.insert(0, Turn("system", self.rng.choice(CLERK), learn=False))
                return self._chat(turns, 1)
            return encode_document(document.text, self.tokenizer)
        if kind == "recall":
            # The whole room is used in half of the cases; questions must still fit behind the text.
            share = self.rng.choice((1.0, 1.0, 1.0, 0.6, 0.3, 0.15))
            n_chars = int(max(room - 350, 150) * CHARS_PER_TOKEN * share * self.rng.uniform(0.85, 1.0))
            if self.rng.random() < 0.5:
                return self._chat(recall.pasted(self.rng, n_chars, self.filler))
            return self._chat(recall.chatted(self.rng, n_chars, self.filler, self.talk))
        return self._chat(tasks_registry.SHORT[kind](self.rng))

    def _once_through(self) -> list[int]:
        """The documents of one pass in a new order."""
        order: list[int] = []
        for i, document in enumerate(self.mine):
            times = OFTEN.get(document.source, 1.0)
            order += [i] * (int(times) + (self.rng.random() < times % 1))
        self.rng.shuffle(order)
        return order

    def _chat(self, turns: list[Turn], weight: int = ANSWER_WEIGHT) -> tuple[list[int], list[int]]:
        tokens, learn = encode_chat(turns, self.tokenizer, weight)
        return [*tokens, 0], [*learn, 0]

    def filler(self, rng: Random, n_chars: int) -> str:
        """Paragraphs of prose that follow each other in their book, about ``n_chars`` long."""
        parts: list[str] = []
        size = 0
        while size < n_chars:
            text = rng.choice(self.prose)
            start = rng.randrange(0, max(1, len(text) - n_chars))
            start = max(text.find("\n\n", start), 0)
            piece = text[start : start + n_chars - size].strip()
            parts.append(piece)
            size += len(piece) + 2
        return "\n\n".join(parts)

    def talk(self, rng: Random) -> list[Turn]:
        """A short conversation about something else: of the corpus, or small tasks."""
        if rng.random() < 0.5:
            make: Callable[[Random], list[Turn]] = rng.choice(list(tasks_registry.SHORT.values()))
            return make(rng)
        found = corpus.turns(rng.choice(self.talks))
        return found if found and found[-1].role == "assistant" else []
