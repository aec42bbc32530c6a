"""Facts to remember: statements, questions and answers about invented people and things.

A fact has an owner and a kind. Kinds differ in how they are told, asked and answered; several
phrasings each, so that the model learns to look things up and not one sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from models.training.tasks import words as w


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of fact is told, asked, answered and corrected. ``{o}`` owner, ``{v}`` value."""

    owner: Callable[[Random], str]
    value: Callable[[Random], str]
    tell: tuple[str, ...]
    ask: tuple[str, ...]
    answer: tuple[str, ...]
    change: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact. ``value`` is what a right answer must contain."""

    kind: Kind
    owner: str
    value: str

    def tell(self, rng: Random) -> str:
        """A sentence that states it."""
        return self._fill(rng.choice(self.kind.tell))

    def ask(self, rng: Random) -> str:
        """A question about it."""
        return self._fill(rng.choice(self.kind.ask))

    def answer(self, rng: Random) -> str:
        """A full sentence that answers the question."""
        return self._fill(rng.choice(self.kind.answer))

    def change(self, rng: Random) -> tuple[Fact, str]:
        """The same fact with another value, and a sentence that says so."""
        value = self.value
        while value == self.value:
            value = self.kind.value(rng)
        new = Fact(self.kind, self.owner, value)
        return new, new._fill(rng.choice(self.kind.change))

    def _fill(self, template: str) -> str:
        text = template.format(o=self.owner, v=self.value)
        return text[0].upper() + text[1:]


def _object(rng: Random) -> str:
    return rng.choice(
        ("the ", "the ", "my ", f"{w.name(rng)}'s ", f"the {rng.choice(w.COLORS)} ")
    ) + rng.choice(w.OBJECTS)


def _place(rng: Random) -> str:
    return rng.choice(w.PLACES)


def _lock(rng: Random) -> str:
    return rng.choice(
        ("the safe", "the garage door", "the blue room", "the alarm", "the office", "the locker", "the gate", "the front door",
         "the bicycle lock", "the boat", "the archive", "the server", "the suitcase", "the green box", "the tower", "the vault",
         "the lab", "the elevator", f"{w.name(rng)}'s phone", f"{w.name(rng)}'s locker", f"room {rng.randrange(2, 99)}")
    )  # fmt: skip


def _pet(rng: Random) -> str:
    return rng.choice(
        ("my ", f"{w.name(rng)}'s ", f"{w.name(rng)}'s ", "our ", "the neighbour's ")
    ) + rng.choice(w.ANIMALS)


def _pet_name(rng: Random) -> str:
    return w.invented(rng) if rng.random() < 0.25 else rng.choice(w.PET_NAMES)


def _event(rng: Random) -> str:
    return rng.choice(
        ("the meeting", "the concert", "the picnic", "the exam", "the party", "the dentist appointment", "the football match",
         "the wedding", "the book club", "the market", "the delivery", "the class trip", f"{w.name(rng)}'s birthday",
         f"{w.name(rng)}'s visit", f"{w.name(rng)}'s lesson")
    )  # fmt: skip


def _when(rng: Random) -> str:
    if rng.random() < 0.5:
        return rng.choice(w.DAYS)
    return f"{rng.choice(w.MONTHS)} {rng.randrange(1, 29)}"


KINDS: dict[str, Kind] = {
    "place": Kind(
        _object, _place,
        ("{o} is in the {v}.", "I put {o} in the {v}.", "you can find {o} in the {v}.", "{o} is kept in the {v}.",
         "we left {o} in the {v}.", "remember that {o} is in the {v}.", "someone has put {o} in the {v}.", "{o} lies in the {v}."),
        ("where is {o}?", "where can I find {o}?", "where did we put {o}?", "in which place is {o}?", "do you know where {o} is?",
         "can you tell me where {o} is?", "I am looking for {o}. Where is it?", "where is {o} now?", "where should I look for {o}?"),
        ("{o} is in the {v}.", "{o} is in the {v}.", "you can find {o} in the {v}.", "it is in the {v}."),
        ("no, {o} is in the {v} now.", "{o} was moved: it is in the {v} now.", "I moved {o} to the {v}.",
         "correction: {o} is in the {v}.", "actually, {o} is in the {v}.", "{o} is not there any more, it is in the {v} now."),
    ),
    "code": Kind(
        _lock, w.number,
        ("the code of {o} is {v}.", "the code for {o} is {v}.", "to open {o}, use the code {v}.", "{o} has the code {v}.",
         "please remember the code of {o}: {v}.", "the number for {o} is {v}.", "note that the code of {o} is {v}."),
        ("what is the code of {o}?", "what is the code for {o}?", "which code opens {o}?", "tell me the code of {o}.",
         "what number do I need for {o}?", "I forgot the code of {o}. What is it?", "can you give me the code for {o}?"),
        ("the code of {o} is {v}.", "the code for {o} is {v}.", "it is {v}.", "{v}."),
        ("the code of {o} has changed to {v}.", "no, the code of {o} is {v} now.", "the new code of {o} is {v}.",
         "actually, the code of {o} is {v}.", "correction: the code for {o} is {v}."),
    ),
    "pet": Kind(
        _pet, _pet_name,
        ("{o} is called {v}.", "{o} has the name {v}.", "the name of {o} is {v}.", "{o} is named {v}.", "{o} listens to the name {v}."),
        ("what is {o} called?", "what is the name of {o}?", "how is {o} called?", "do you remember the name of {o}?",
         "what is {o} named?", "which name does {o} have?"),
        ("{o} is called {v}.", "the name of {o} is {v}.", "it is called {v}."),
        ("no, {o} is called {v}.", "actually, {o} is called {v} now.", "{o} has a new name: {v}.", "correction: {o} is named {v}."),
    ),
    "color": Kind(
        lambda r: f"{w.name(r)}'s " + r.choice(("car", "coat", "house", "bicycle", "hat", "door", "boat", "bag", "tent", "scarf")),
        lambda r: r.choice(w.COLORS),
        ("{o} is {v}.", "{o} has the colour {v}.", "the colour of {o} is {v}.", "{o} was painted {v}.", "{o} looks {v}."),
        ("what colour is {o}?", "what is the colour of {o}?", "which colour does {o} have?", "do you know the colour of {o}?",
         "what color is {o}?"),
        ("{o} is {v}.", "the colour of {o} is {v}.", "it is {v}."),
        ("no, {o} is {v} now.", "{o} was painted again: it is {v} now.", "actually, {o} is {v}.", "correction: {o} is {v}."),
    ),
    "city": Kind(
        w.name, lambda r: w.invented(r) if r.random() < 0.2 else r.choice(w.CITIES),
        ("{o} lives in {v}.", "{o} comes from {v} and lives there.", "the home of {o} is in {v}.", "{o} has a flat in {v}.",
         "{o} has lived in {v} for years."),
        ("where does {o} live?", "in which city does {o} live?", "what city does {o} live in?", "which city is {o}'s home?",
         "do you know where {o} lives?"),
        ("{o} lives in {v}.", "{o} lives in {v}.", "in {v}."),
        ("{o} has moved to {v}.", "no, {o} lives in {v} now.", "actually, {o} lives in {v}.", "correction: {o} lives in {v}."),
    ),
    "job": Kind(
        w.name, lambda r: r.choice(w.JOBS),
        ("{o} works as a {v}.", "the job of {o} is {v}.", "{o} earns money as a {v}.", "{o} is a {v} by profession.", "{o} became a {v}."),
        ("what is {o}'s job?", "what does {o} work as?", "which job does {o} have?", "what does {o} do for a living?",
         "what is the profession of {o}?"),
        ("{o} works as a {v}.", "{o} is a {v}.", "the job of {o} is {v}."),
        ("no, {o} works as a {v} now.", "{o} has a new job as a {v}.", "actually, {o} is a {v}.", "correction: {o} works as a {v}."),
    ),
    "food": Kind(
        lambda r: r.choice(("my", f"{w.name(r)}'s", f"{w.name(r)}'s")) + " favourite food", lambda r: r.choice(w.FOODS),
        ("{o} is {v}.", "{o} has always been {v}.", "everybody knows that {o} is {v}."),
        ("what is {o}?", "do you remember {o}?", "tell me {o}.", "which dish is {o}?"),
        ("{o} is {v}.", "it is {v}."),
        ("no, {o} is {v} now.", "{o} has changed to {v}.", "actually, {o} is {v}."),
    ),
    "hobby": Kind(
        w.name, lambda r: r.choice(w.HOBBIES),
        ("{o}'s hobby is {v}.", "{o} loves {v}.", "in the free time {o} goes for {v}.", "{o} spends every weekend on {v}."),
        ("what is {o}'s hobby?", "what does {o} love to do?", "which hobby does {o} have?", "how does {o} spend the weekend?"),
        ("{o}'s hobby is {v}.", "{o} loves {v}."),
        ("no, {o}'s hobby is {v} now.", "{o} has changed the hobby to {v}.", "actually, {o} loves {v}."),
    ),
    "when": Kind(
        _event, _when,
        ("{o} is on {v}.", "{o} takes place on {v}.", "{o} was planned for {v}.", "the date of {o} is {v}.", "do not forget {o} on {v}."),
        ("when is {o}?", "when does {o} take place?", "on which day is {o}?", "what is the date of {o}?", "do you know when {o} is?"),
        ("{o} is on {v}.", "{o} takes place on {v}.", "on {v}."),
        ("{o} was moved to {v}.", "no, {o} is on {v} now.", "actually, {o} is on {v}.", "correction: {o} takes place on {v}."),
    ),
    "mine": Kind(
        lambda r: r.choice(("my name", "my sister's name", "my brother's name", "my teacher's name", "my boss's name",
                            "my daughter's name", "my son's name", "my best friend's name", "my neighbour's name")),
        w.name,
        ("{o} is {v}.", "by the way, {o} is {v}.", "please remember that {o} is {v}."),
        ("what is {o}?", "do you remember {o}?", "tell me {o}.", "can you say {o}?"),
        ("your {o} is {v}.",),
        ("no, {o} is {v}.", "actually, {o} is {v}.", "I made a mistake: {o} is {v}."),
    ),
}  # fmt: skip
"""Every kind of fact by name."""


def distinct(rng: Random, n: int) -> list[Fact]:
    """``n`` facts about different owners; some share a kind, so that they distract from each other."""
    facts: list[Fact] = []
    taken: set[str] = set()
    kinds = list(KINDS.values())
    few = rng.sample(kinds, rng.randrange(1, 4)) if rng.random() < 0.5 else kinds
    while len(facts) < n:
        kind = rng.choice(few if rng.random() < 0.7 else kinds)
        owner = kind.owner(rng)
        if owner.lower() in taken:
            continue
        taken.add(owner.lower())
        facts.append(Fact(kind, owner, kind.value(rng)))
    return facts


def second_person(text: str) -> str:
    """Turn the user's "my" and "our" into the assistant's "your"."""
    out = []
    for word in text.split(" "):
        out.append(
            {"my": "your", "My": "Your", "our": "your", "Our": "Your", "your my": "your"}.get(word, word)
        )
    return " ".join(out).replace("your your", "your").replace("Your your", "Your")
