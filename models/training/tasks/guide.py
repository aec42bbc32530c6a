"""Questions about this program, from ``docs/guide.toml``, in the phrasings that are meant for training."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from models.training.chatml import Turn

GUIDE = Path(__file__).parents[3] / "docs" / "guide.toml"
DATA = Path(__file__).parents[1] / "data"
OFTEN = 4
"""How often a phrasing that somebody wrote is taken against one that was put together from pieces."""


_DO = (
    "How do I {t}?", "How can I {t}?", "How to {t}?", "What do I type to {t}?", "What must I press to {t}?", "Which command lets me {t}?",
    "Which key lets me {t}?", "Is there a way to {t}?", "Is it possible to {t}?", "Is there a command to {t}?", "Is there a key to {t}?",
    "I want to {t}.", "I would like to {t}. How?", "Can I {t}?", "Could you tell me how to {t}?", "Tell me how to {t}.", "In which way can I {t}?",
    "What is the way to {t}?", "Where can I {t}?", "What is the command to {t}?", "What is the key to {t}?", "What can I do to {t}?",
    "Please {t}.", "Show me how to {t}.", "What helps me to {t}?", "How could I {t}?", "Do you know how to {t}?", "{t}, how?",
)  # fmt: skip
_TERM = (
    "What is {t}?", "What are {t}?", "Explain {t}.", "Can you explain {t}?", "Could you explain {t}?", "What does {t} mean?", "What do you mean by {t}?",
    "What is meant by {t}?", "Tell me about {t}.", "Tell me what {t} is.", "Could you describe {t}?", "What can you say about {t}?",
    "In a few words, what is {t}?", "What is {t} for?", "What is behind {t}?", "Please explain {t} to me.", "What should I know about {t}?",
    "I do not understand {t}.", "What is special about {t}?", "What kind of thing is {t}?", "How does {t} work?", "Why is there {t}?",
    "What do I need to know about {t}?", "{t}?", "What have you to say of {t}?", "Define {t}.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing worth knowing about the program."""

    id: str
    ask: tuple[str, ...]
    """Phrasings for training."""
    test: tuple[str, ...]
    """Phrasings for the examination only."""
    fresh: tuple[str, ...]
    """The same by somebody who did not know the phrasings for training."""
    answer: tuple[str, ...]
    key: str
    """What a right answer must contain (case does not matter; ``|`` separates alternatives)."""


def is_right(entry: Entry, answer: str) -> bool:
    """Whether an answer holds the key fact: the key, or one of its alternatives, in any case."""
    return any(key.lower() in answer.lower() for key in entry.key.split("|"))


def spelled_out(text: str) -> list[str]:
    """Every text that a phrasing with ``{a|b}`` stands for."""
    made = [""]
    for i, piece in enumerate(re.split(r"\{([^{}]*\|[^{}]*)\}", text)):
        choices = piece.split("|") if i % 2 else [piece]
        made = [before + choice for before in made for choice in choices]
    return made


def phrasings(row: dict[str, list[str]], more: list[str], forbidden: set[str]) -> tuple[str, ...]:
    """Every training phrasing of a row of the file, without those of the examination (of any row)."""
    made = [
        f.format(t=t)
        for frames, name in ((_DO, "do"), (_TERM, "term"))
        for t in row.get(name, ())
        for f in frames
    ]
    made = [m[0].upper() + m[1:] for m in made]
    asked = [spelled_out(text) for text in row["ask"]]
    plain = [*(texts[0] for texts in asked if len(texts) == 1), *more]
    many = [text for texts in asked for text in texts]
    every = (*plain * (OFTEN - 1), *dict.fromkeys([*many, *more, *made]))
    return tuple(p for p in every if _bare(p) not in forbidden)


def _bare(text: str) -> str:
    return re.sub(r"[^a-z0-9_/+]+", " ", text.lower()).strip()


@cache
def entries() -> tuple[Entry, ...]:
    """The guide."""
    rows = tomllib.loads(GUIDE.read_text())["entry"]
    more = tomllib.loads((DATA / "phrasings.toml").read_text())
    fresh = tomllib.loads((DATA / "fresh.toml").read_text())
    forbidden = {_bare(t) for r in rows for t in (*r["test"], *fresh[r["id"]])}
    return tuple(
        Entry(
            r["id"],
            phrasings(r, more[r["id"]], forbidden),
            tuple(r["test"]),
            tuple(fresh[r["id"]]),
            tuple(r["answer"]),
            r["key"],
        )
        for r in rows
    )


_BEFORE = (
    "",
    "",
    "",
    "",
    "Please tell me: ",
    "Quick question: ",
    "Hey, ",
    "Can you help me? ",
    "I am new here. ",
    "In Stretch, ",
    "Sorry, ",
)
_AFTER = ("", "", "", "", " Please.", " Thanks.", " in this program?", " in Stretch?")


def varied(rng: Random, ask: str) -> str:
    """The same question as somebody else would type it."""
    before, after = rng.choice(_BEFORE), rng.choice(_AFTER)
    if after.endswith("?"):
        ask = ask[:-1] + after if ask.endswith("?") and "Stretch" not in ask and "program" not in ask else ask
    else:
        ask += after
    if before.rstrip().endswith((",", ":")) and not ask.startswith("I "):
        ask = ask[0].lower() + ask[1:]
    ask = before + ask
    roll = rng.random()
    if roll < 0.12:
        ask = ask.lower()
    if roll < 0.06:
        ask = ask.rstrip("?.")
    if rng.random() < 0.06 and len(ask) > 12:  # a slip of the finger
        i = rng.randrange(3, len(ask) - 2)
        ask = ask[:i] + ask[i + 1] + ask[i] + ask[i + 2 :]
    return ask


def make(rng: Random) -> list[Turn]:
    """One to four questions about the program."""
    turns: list[Turn] = []
    for entry in rng.sample(entries(), rng.choice((1, 1, 2, 3, 4))):
        turns += [
            Turn("user", varied(rng, rng.choice(entry.ask)), learn=False),
            Turn("assistant", rng.choice(entry.answer)),
        ]
    return turns
