"""Sums, differences, small products and comparisons, told in many ways."""

from __future__ import annotations

from hashlib import blake2b
from random import Random

from models.training.chatml import Turn
from models.training.tasks import words as w

_PLUS = ("What is {a} + {b}?", "{a} + {b} = ?", "{a} plus {b}", "Calculate {a} + {b}.", "How much is {a} plus {b}?", "Add {a} and {b}.",
         "Can you work out {a} + {b}?", "{a}+{b}", "What do you get when you add {b} to {a}?", "What's {a} plus {b}?", "Compute {a} + {b}.",
         "What is the sum of {a} and {b}?", "Please add {a} and {b} for me.", "{a} + {b}")  # fmt: skip
_MINUS = ("What is {a} - {b}?", "{a} - {b} = ?", "{a} minus {b}", "Calculate {a} - {b}.", "How much is {a} minus {b}?",
          "Subtract {b} from {a}.", "Can you work out {a} - {b}?", "{a}-{b}", "What is left when you take {b} from {a}?",
          "What's {a} minus {b}?", "Compute {a} - {b}.", "What is the difference between {a} and {b}?", "{a} - {b}")  # fmt: skip
_TIMES = (
    "What is {a} times {b}?",
    "{a} * {b} = ?",
    "{a} x {b}",
    "Multiply {a} by {b}.",
    "What is {a} * {b}?",
)
_STORY_PLUS = ("{n} has {a} {t} and gets {b} more. How many {t} does {n} have now?",
               "There are {a} {t} in one box and {b} in another. How many {t} are there together?",
               "{n} buys {a} {t} on Monday and {b} on Friday. How many is that?")  # fmt: skip
_STORY_MINUS = ("{n} has {a} {t} and gives away {b}. How many {t} are left?",
                "There were {a} {t} on the table and {b} were taken. How many are left?")  # fmt: skip
_THINGS = "apples books cards pencils marbles coins shells stickers cookies buttons stamps eggs".split()


def _pair(rng: Random) -> tuple[int, int]:
    top = 100 if rng.random() < 0.8 else 1000 if rng.random() < 0.6 else 20
    return rng.randrange(1 if top < 1000 else 100, top), rng.randrange(1, top)


def _one(rng: Random, hold_out: bool) -> tuple[str, str]:
    roll = rng.random()
    a, b = _pair(rng)
    if roll < 0.84:
        plus = roll < 0.42
        if not plus and a < b and rng.random() < 0.85:
            a, b = b, a
        if is_held_out(a, b) and not hold_out:
            return _one(rng, hold_out)
        c = a + b if plus else a - b
        sign = "+" if plus else "-"
        if rng.random() < 0.12 and a >= b:
            story = rng.choice(_STORY_PLUS if plus else _STORY_MINUS)
            n, t = rng.choice(w.NAMES), rng.choice(_THINGS)
            return story.format(n=n, t=t, a=a, b=b), f"{a} {sign} {b} = {c}. The answer is {c}."
        ask = rng.choice(_PLUS if plus else _MINUS).format(a=a, b=b)
        if "difference" in ask:
            return ask, f"The difference is {abs(a - b)}."
        word = "plus" if plus else "minus"
        return ask, rng.choice(
            (
                f"{a} {sign} {b} = {c}.",
                f"{a} {sign} {b} = {c}.",
                f"{a} {word} {b} is {c}.",
                f"The answer is {c}.",
            )
        )
    if roll < 0.92:
        a, b = rng.randrange(2, 13), rng.randrange(2, 13)
        return rng.choice(_TIMES).format(a=a, b=b), rng.choice(
            (f"{a} * {b} = {a * b}.", f"{a} times {b} is {a * b}.")
        )
    if roll < 0.96:
        big, small = max(a, b), min(a, b)
        if big == small:
            big += 1
        first, second = rng.sample((big, small), 2)
        if rng.random() < 0.5:
            return f"Which number is larger: {first} or {second}?", f"{big} is larger than {small}."
        return f"Which number is smaller: {first} or {second}?", f"{small} is smaller than {big}."
    step = rng.choice((1, 1, 2, 5, 10))
    start = rng.randrange(0, 60)
    row = ", ".join(str(start + i * step) for i in range(rng.randrange(5, 11)))
    by = "" if step == 1 else f" in steps of {step}"
    return f"Count from {start}{by}, {row.count(',') + 1} numbers.", f"{row}."


def is_held_out(a: int, b: int) -> bool:
    """Pairs of two-digit numbers, in either order, that training never sees: one in ten."""
    if not (10 <= a <= 99 and 10 <= b <= 99):
        return False
    # A hash, not arithmetic modulo ten: that would hold out all sums that end with the same digit.
    return blake2b(f"{min(a, b)} {max(a, b)}".encode(), digest_size=1).digest()[0] % 10 == 3


def make(rng: Random) -> list[Turn]:
    """One to six small problems."""
    turns = []
    for _ in range(rng.choice((1, 2, 3, 4, 6))):
        ask, answer = _one(rng, hold_out=False)
        turns += [Turn("user", ask, learn=False), Turn("assistant", answer)]
    return turns
