"""Facts to hide in a text and to ask for: invented people and things, each with one short answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NAMES = _words(
    "Alvaro Bettina Casimir Dorota Emeka Farida Goran Hanneke Ilario Jorunn Katsumi Leocadia Marisol Nadim "
    "Oksana Petronel Quirin Rosalba Sunniva Tobias Ulrike Vasilis Wendela Yasmin Zdenek"
)
_CODES = (
    "the safe",
    "the garage door",
    "the alarm",
    "the archive",
    "the bicycle lock",
    "the suitcase",
    "the front door",
    "the green locker",
    "the boat house",
    "the server room",
)
_THINGS = (
    "the silver key",
    "the torch",
    "the telescope",
    "the old map",
    "the ladder",
    "the violin",
    "the toolbox",
    "the red umbrella",
    "the camera",
    "the compass",
)
_PLACES = _words("attic cellar kitchen garden library stable bathroom workshop hallway greenhouse")
_ANIMALS = _words("dog cat parrot horse rabbit goat")
_PETS = _words("Biscuit Pepper Nimbus Clover Domino Tango Waffle Maple Rocket Sable")
_CITIES = _words("Lisbon Toronto Nairobi Prague Helsinki Lima Osaka Dublin Cairo Oslo")
_JOBS = _words("baker pilot dentist carpenter gardener librarian nurse plumber farmer tailor")
_COLOURS = _words("green yellow purple orange white black brown pink")
_PAINTED = _words("car coat boat bicycle tent scarf")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact."""

    owner: str
    """Whom or what it is about; no two facts of a text share it."""
    statement: str
    """The sentence to hide."""
    question: str
    value: str
    """What a right answer holds."""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _code(rng: Random) -> Fact:
    owner, value = rng.choice(_CODES), str(rng.randrange(1000, 100000))
    return Fact(owner, f"The code of {owner} is {value}.", f"What is the code of {owner}?", value)


def _place(rng: Random) -> Fact:
    owner, value = rng.choice(_THINGS), rng.choice(_PLACES)
    return Fact(owner, f"{_capital(owner)} is in the {value}.", f"Where is {owner}?", value)


def _pet(rng: Random) -> Fact:
    name, animal, value = rng.choice(_NAMES), rng.choice(_ANIMALS), rng.choice(_PETS)
    return Fact(
        name, f"{name}'s {animal} is called {value}.", f"What is the name of {name}'s {animal}?", value
    )


def _city(rng: Random) -> Fact:
    name, value = rng.choice(_NAMES), rng.choice(_CITIES)
    return Fact(name, f"{name} lives in {value}.", f"Where does {name} live?", value)


def _job(rng: Random) -> Fact:
    name, value = rng.choice(_NAMES), rng.choice(_JOBS)
    return Fact(name, f"{name} works as a {value}.", f"What does {name} work as?", value)


def _colour(rng: Random) -> Fact:
    name, thing, value = rng.choice(_NAMES), rng.choice(_PAINTED), rng.choice(_COLOURS)
    return Fact(name, f"{name}'s {thing} is {value}.", f"What colour is {name}'s {thing}?", value)


KINDS = (_code, _place, _pet, _city, _job, _colour)


def make_facts(rng: Random, n: int) -> list[Fact]:
    """``n`` facts (at most 24) of all kinds in turn, no two about the same owner or with the same value."""
    facts: list[Fact] = []
    while len(facts) < n:
        fact = KINDS[len(facts) % len(KINDS)](rng)
        if all(fact.owner != f.owner and fact.value != f.value for f in facts):
            facts.append(fact)
    return facts


def holds(text: str, value: str) -> bool:
    """Whether ``value`` stands in ``text`` as a word of its own, upper or lower case; a number also not
    as a part of another one (``4711.5``, ``2,4711``, ``99-4711``)."""
    found = rf"(?<!\w)(?<!\d[.,-]){re.escape(value)}(?!\w)(?![.,-]\d)"
    return re.search(found, text, re.IGNORECASE) is not None


def is_right(reply: str, fact: Fact, facts: list[Fact]) -> bool:
    """The strict judgement: the reply holds the value of ``fact`` and that of no other fact of the text.

    So neither a longer number that begins with the right one counts, nor a list of everything. What stands
    in the question may stand in the reply: the colour of a bicycle does not forbid "the green locker".
    """
    return holds(reply, fact.value) and not any(
        holds(reply, other.value) and not holds(fact.question, other.value)
        for other in facts
        if other is not fact
    )
