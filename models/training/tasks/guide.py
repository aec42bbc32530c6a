"""Questions about this program, from ``docs/guide.toml``, in the phrasings that are meant for training."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from models.training.chatml import Turn

GUIDE = Path(__file__).parents[3] / "docs" / "guide.toml"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing worth knowing about the program."""

    id: str
    ask: tuple[str, ...]
    """Phrasings for training."""
    test: tuple[str, ...]
    """Phrasings for the examination only."""
    answer: tuple[str, ...]
    key: str
    """What a right answer must contain (case does not matter; ``|`` separates alternatives)."""


@cache
def entries() -> tuple[Entry, ...]:
    """The guide."""
    with GUIDE.open("rb") as file:
        rows = tomllib.load(file)["entry"]
    return tuple(
        Entry(r["id"], tuple(r["ask"]), tuple(r["test"]), tuple(r["answer"]), r["key"]) for r in rows
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
