"""Long conversations in which facts are told, corrected, and asked for much later.

Three shapes: facts told one by one in a chat; facts hidden between the paragraphs of a long text
that the user pastes; and a mixture with talk about other things. Questions come at the end and
in between, so that every distance up to the whole context is practised.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from models.training.chatml import Part, Turn
from models.training.tasks.facts import Fact, distinct, second_person

Filler = Callable[[Random, int], str]
"""``filler(rng, n_chars)``: ordinary text of about that length from the training split."""
Talk = Callable[[Random], list[Turn]]
"""A short conversation about something else."""

_HEARD = (
    "I will remember that.", "Thank you, I will keep that in mind.", "Noted.", "Got it.", "All right, I will remember it.",
    "I have made a note of that.", "Okay, good to know.", "Thanks for telling me.", "Understood.",
)  # fmt: skip
_READ = (
    "I have read the text.", "Thank you, I have read it. What would you like to know?", "Done. Ask me anything about it.",
    "I have read it and will remember the details.", "All right, I have read the text.", "I have read everything.",
)  # fmt: skip
_INTRO = (
    "Read this text and remember the facts in it.", "Here is a text. Some facts are hidden in it.", "Please read this.",
    "I will ask you about this text later.", "Read the following carefully.", "Here are my notes.", "Remember what this says.",
)  # fmt: skip
_UNKNOWN_ANSWER = (
    "You have not told me that.", "I do not know; it was not mentioned.", "That was not mentioned.", "I was not told that.",
)  # fmt: skip
_UPDATE_HEARD = (
    "Thank you, I have corrected that.", "Noted, I will remember the change.", "All right, I have updated it.",
    "Got it, thanks for the correction.", "Okay, I will remember the new one.",
)  # fmt: skip


def question(rng: Random, fact: Fact) -> list[Turn]:
    """A question about ``fact`` and its answer."""
    return [
        Turn("user", fact.ask(rng), learn=False),
        Turn("assistant", second_person(fact.answer(rng))),
    ]


def several(rng: Random, facts: list[Fact]) -> list[Turn]:
    """One message with two or three questions."""
    asked = rng.sample(facts, min(len(facts), rng.choice((2, 2, 3))))
    text = " ".join(f.ask(rng) for f in asked)
    return [
        Turn("user", text, learn=False),
        Turn("assistant", " ".join(second_person(f.answer(rng)) for f in asked)),
    ]


BREAK = "\n\n"


def _apart(pieces: list[Part], text: str, learn: bool) -> list[Part]:
    """``text`` as a paragraph behind ``pieces``; the break belongs to the piece before it."""
    if pieces and not pieces[-1][0].endswith(BREAK):
        before, learned = pieces.pop()
        return [(before + BREAK, learned), (text, learn)]
    return [(text, learn)]


def _message(pieces: list[Part]) -> Turn:
    """What the user pastes: the ordinary text in it is practice like every other text, the facts are not."""
    return Turn("user", "".join(text for text, _ in pieces), learn=False, parts=tuple(pieces))


def _unknown(rng: Random, facts: list[Fact]) -> list[Turn]:
    stranger = next(
        f for f in distinct(rng, len(facts) + 4) if f.owner.lower() not in {x.owner.lower() for x in facts}
    )
    return [Turn("user", stranger.ask(rng), learn=False), Turn("assistant", rng.choice(_UNKNOWN_ANSWER))]


def pasted(rng: Random, n_chars: int, filler: Filler) -> list[Turn]:
    """Facts between the paragraphs of a long pasted text, then questions in any order."""
    facts = distinct(rng, rng.choice((2, 4, 6, 8, 8, 8, 10, 12)))
    text = filler(rng, n_chars)
    paragraphs = text.split("\n\n")
    depths = sorted(rng.random() for _ in facts)
    current = list(facts)
    pieces: list[Part] = []
    k = 0
    told: list[tuple[float, str]] = [(d, f.tell(rng)) for d, f in zip(depths, facts, strict=True)]
    if rng.random() < 0.45:  # some facts are corrected further down
        for i in rng.sample(range(len(facts)), rng.randrange(1, max(2, len(facts) // 2))):
            current[i], sentence = facts[i].change(rng)
            told.append((rng.uniform(depths[i], 1.0), sentence))
        told.sort(key=lambda t: t[0])
    inline = rng.random() < 0.3
    for i, paragraph in enumerate(paragraphs):
        while k < len(told) and told[k][0] <= (i + 0.5) / len(paragraphs):
            if inline and pieces:
                pieces.append((" " + told[k][1], False))
            else:
                pieces += _apart(pieces, told[k][1], False)
            k += 1
        pieces += _apart(pieces, paragraph, True)
    for _, sentence in told[k:]:
        pieces += _apart(pieces, sentence, False)
    turns: list[Turn] = []
    if rng.random() < 0.35:  # text and first question in one message
        first = rng.choice(current)
        pieces += _apart(pieces, first.ask(rng), False)
        turns += [_message(pieces), Turn("assistant", second_person(first.answer(rng)))]
    else:
        pieces[:0] = [(rng.choice(_INTRO) + BREAK, False)]
        turns += [_message(pieces), Turn("assistant", rng.choice(_READ))]
    for fact in rng.sample(current, len(current)):
        turns += question(rng, fact)
    if rng.random() < 0.3:
        turns += _unknown(rng, facts)
    return turns


def chatted(rng: Random, n_chars: int, filler: Filler, talk: Talk) -> list[Turn]:
    """Facts told in a chat, other talk and pasted texts between them, corrections, questions everywhere."""
    facts = distinct(rng, rng.choice((2, 3, 4, 6, 8, 8, 10)))
    waiting = list(facts)
    known: list[Fact] = []
    turns: list[Turn] = []
    size = 0

    def say(more: list[Turn]) -> None:
        nonlocal size
        turns.extend(more)
        size += sum(len(t.text) + 12 for t in more)

    while size < n_chars or waiting:
        roll = rng.random()
        early = size < n_chars * 0.5
        if waiting and (roll < 0.35 if early else roll < 0.6 or size >= n_chars):
            told = [waiting.pop() for _ in range(min(len(waiting), rng.choice((1, 1, 2, 3))))]
            known += told
            say(
                [
                    Turn("user", " ".join(f.tell(rng) for f in told), learn=False),
                    Turn("assistant", rng.choice(_HEARD)),
                ]
            )
        elif known and roll < 0.5:
            say(question(rng, rng.choice(known)) if rng.random() < 0.85 else several(rng, known))
        elif known and roll < 0.6:
            i = rng.randrange(len(known))
            known[i], sentence = known[i].change(rng)
            say([Turn("user", sentence, learn=False), Turn("assistant", rng.choice(_UPDATE_HEARD))])
        elif roll < 0.8:
            say(talk(rng))
        else:
            n = int(min(max(n_chars - size, 200), rng.choice((300, 800, 2000, 5000, 9000))))
            say(
                [
                    _message([(rng.choice(_INTRO) + BREAK, False), (filler(rng, n), True)]),
                    Turn("assistant", rng.choice(_READ)),
                ]
            )
    for fact in rng.sample(known, len(known)):
        say(question(rng, fact))
    if rng.random() < 0.25:
        say(_unknown(rng, known))
    return turns
