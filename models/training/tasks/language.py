"""Spelling, lists, sorting, opposites: small tasks with one right answer that is in the question or in a table."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from models.training.chatml import Turn
from models.training.tasks import words as w

_WORDS = sorted(
    {x.lower() for x in w.OBJECTS + w.COLORS + w.JOBS + w.ANIMALS}
    | set("""apple bread bridge butter castle cheese cloud dragon dream engine farmer feather flower forest friend garden grape house
    island jacket jungle king ladder lemon letter lion magic market meadow money moon morning mountain music night ocean orange paper
    pencil planet pocket potato queen rain river road school season ship silver sister snow spring star stone storm story street
    summer sun table tower train tree valley village water weather wheel wind window winter wood world yellow""".split())
)  # fmt: skip
_OPPOSITES = dict(
    pair.split("/")
    for pair in """hot/cold big/small up/down fast/slow early/late open/closed light/dark happy/sad old/new long/short high/low hard/soft
    wet/dry full/empty rich/poor strong/weak left/right near/far first/last clean/dirty quiet/loud buy/sell win/lose push/pull
    begin/end remember/forget above/below inside/outside before/after love/hate thick/thin sharp/blunt young/old give/take""".split()
)
_GROUPS: dict[str, list[str]] = {
    "fruits": "apple banana cherry grape lemon orange peach pear plum melon mango kiwi".split(),
    "animals": "cat dog horse cow sheep goat lion tiger elephant rabbit fox bear wolf mouse".split(),
    "colours": "red blue green yellow orange purple brown black white pink".split(),
    "vegetables": "carrot potato onion tomato cabbage bean pea spinach leek pumpkin".split(),
    "tools": "hammer saw wrench drill screwdriver pliers chisel file axe spade".split(),
    "musical instruments": "piano violin guitar flute drum trumpet cello harp clarinet organ".split(),
    "countries": "France Spain Italy Germany Poland Japan Brazil Canada Egypt India Kenya Norway".split(),
    "planets": "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split(),
    "things in a kitchen": "knife fork spoon pan pot plate bowl cup stove sink".split(),
}
_NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def _sentence(items: list[str]) -> str:
    return ", ".join(items[:-1]) + " and " + items[-1]


def _spell(rng: Random) -> tuple[str, str]:
    word = rng.choice(_WORDS) if rng.random() < 0.7 else w.invented(rng).lower()
    ask = rng.choice(
        (
            "How do you spell {x}?",
            "Spell the word {x}.",
            "Spell {x}.",
            "Can you spell {x}?",
            "Please spell the word {x} for me.",
        )
    )
    return ask.format(x=word), f"{word.capitalize()} is spelled {'-'.join(word.upper())}."


def _letters(rng: Random) -> tuple[str, str]:
    word = rng.choice(_WORDS)
    kind = rng.randrange(3)
    if kind == 0:
        return f"How many letters does the word {word} have?", f"The word {word} has {len(word)} letters."
    if kind == 1:
        return f"What is the first letter of {word}?", f"The first letter of {word} is {word[0].upper()}."
    return f"What is the last letter of {word}?", f"The last letter of {word} is {word[-1].upper()}."


def _listing(rng: Random) -> tuple[str, str]:
    group = rng.choice(list(_GROUPS))
    n = rng.randrange(2, 7)
    items = rng.sample(_GROUPS[group], n)
    number = rng.choice((str(n), _NUMBER_WORDS[n]))
    ask = rng.choice(
        (
            "Name {n} {g}.",
            "Give me a list of {n} {g}.",
            "List {n} {g}.",
            "Tell me {n} {g}.",
            "Can you name {n} {g}?",
        )
    )
    if rng.random() < 0.4:
        return ask.format(n=number, g=group), "\n".join(f"{i}. {x}" for i, x in enumerate(items, 1))
    text = _sentence(items)
    return ask.format(n=number, g=group), text[0].upper() + text[1:] + "."


def _sort(rng: Random) -> tuple[str, str]:
    if rng.random() < 0.5:
        items = rng.sample(_WORDS, rng.randrange(3, 7))
        return f"Sort these words in alphabetical order: {', '.join(items)}", ", ".join(sorted(items))
    numbers = rng.sample(range(1, 100), rng.randrange(3, 8))
    up = rng.random() < 0.5
    way = "smallest to largest" if up else "largest to smallest"
    return f"Sort these numbers from {way}: {', '.join(map(str, numbers))}", ", ".join(
        map(str, sorted(numbers, reverse=not up))
    )


def _opposite(rng: Random) -> tuple[str, str]:
    a, b = rng.choice(list(_OPPOSITES.items()))
    if rng.random() < 0.5 and b not in ("old",):
        a, b = b, a
    return rng.choice(
        ("What is the opposite of {a}?", "Give me the opposite of {a}.", "Opposite of {a}?")
    ).format(a=a), f'The opposite of "{a}" is "{b}".'


def _repeat(rng: Random) -> tuple[str, str]:
    items = [
        w.invented(rng) if rng.random() < 0.4 else rng.choice(_WORDS) for _ in range(rng.randrange(3, 9))
    ]
    which = rng.randrange(4)
    row = ", ".join(items)
    if which == 0:
        return f"Repeat these words: {row}", f"{row}."
    if which == 1:
        return f"Say these words backwards: {row}", f"{', '.join(reversed(items))}."
    if which == 2:
        i = rng.randrange(len(items))
        ordinal = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")[i]
        return f"Which word is the {ordinal} in this list: {row}?", f"The {ordinal} word is {items[i]}."
    return f"How many words are in this list: {row}?", f"There are {len(items)} words in the list."


def _upper(rng: Random) -> tuple[str, str]:
    word = rng.choice(_WORDS)
    return rng.choice(
        (f"Write the word {word} in capital letters.", f"Put {word} in capitals.")
    ), word.upper()


_MAKERS: tuple[Callable[[Random], tuple[str, str]], ...] = (
    _spell,
    _spell,
    _letters,
    _listing,
    _listing,
    _sort,
    _opposite,
    _repeat,
    _repeat,
    _upper,
)


def make(rng: Random) -> list[Turn]:
    """One to four small tasks."""
    turns = []
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        ask, answer = rng.choice(_MAKERS)(rng)
        turns += [Turn("user", ask, learn=False), Turn("assistant", answer)]
    return turns
