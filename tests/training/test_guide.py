"""The guide, from which the built-in models learn what the program does, against the program itself."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from random import Random

import pytest

from app import cli
from app.chat.commands import BY_NAME, COMMANDS
from models.training.tasks import guide

APP = Path(cli.__file__).parent
SLASH = re.compile(r"(?<![\w/.<>])/([a-z]+)\b(?![/.])")
PROGRAM = re.compile(r"\bstretch ([a-z]+)\b")
OPTION = re.compile(r"(?<!\w)--([a-z][a-z-]+)")
KEY = re.compile(r"\b((?:ctrl|alt|shift)\+(?:[a-z]+|[a-z0-9])|f[1-9][0-2]?)\b(?!_)", re.IGNORECASE)

COMING: frozenset[str] = frozenset()
"""What the guide may name before the program has it: commands without a slash, ``stretch NAME``, keys."""

NOT_COMMANDS = frozenset({"alone", "and", "a", "with", "in", "to", "for", "table", "command", "without"})
"""Words that may follow the name of the program in a sentence."""


def told(entry: guide.Entry) -> str:
    """Everything that an entry says."""
    return "\n".join([*entry.answer, *entry.ask, *entry.test])


def bound_keys() -> set[str]:
    """Every key that the program binds, from its source."""
    found = {c.key for c in COMMANDS if c.key}
    for path in (APP / "chat").rglob("*.py"):
        for keys in re.findall(r'Binding\(\s*"([^"]+)"', path.read_text(encoding="utf-8")):
            found |= {key.strip() for key in keys.split(",")}
    text = "".join(p.read_text(encoding="utf-8") for p in (APP / "chat").rglob("*.py"))
    return found | {key for key in ("ctrl+p", "ctrl+j", "shift+enter") if f'"{key}"' in text}


@pytest.fixture(scope="module")
def entries() -> tuple[guide.Entry, ...]:
    return guide.entries()


def test_every_slash_command_is_explained(entries: tuple[guide.Entry, ...]) -> None:
    """Some entry has it as the key fact of its answer."""
    keys = {key for entry in entries for key in re.findall(r"/[a-z]+", entry.key)}
    keys |= {
        f"/{c.name}" for e in entries for c in COMMANDS if c.key and c.key.replace("escape", "esc") in e.key
    }
    assert not {f"/{command.name}" for command in COMMANDS} - keys


def test_every_command_of_the_shell_is_explained(entries: tuple[guide.Entry, ...]) -> None:
    keys = {word for entry in entries for word in entry.key.split("|")}
    assert not {f"stretch {name}" for name in cli.COMMANDS if name != cli.DEFAULT} - keys


def test_every_key_of_a_command_is_told(entries: tuple[guide.Entry, ...]) -> None:
    answers = "\n".join(a for e in entries for a in e.answer).lower()
    wanted = {c.key.replace("escape", "esc") for c in COMMANDS if c.key} | {"alt+left", "ctrl+p", "shift+tab"}
    assert not {key for key in wanted if not re.search(rf"\b{re.escape(key)}\b", answers)}


def test_no_slash_command_is_told_that_does_not_exist(entries: tuple[guide.Entry, ...]) -> None:
    named = {(e.id, name) for e in entries for name in SLASH.findall(told(e))}
    assert not {(i, n) for i, n in named if n not in BY_NAME and n not in COMING}


def test_no_command_of_the_shell_is_told_that_does_not_exist(entries: tuple[guide.Entry, ...]) -> None:
    named = {
        (e.id, n) for e in entries for n in PROGRAM.findall("\n".join(e.answer)) if n not in NOT_COMMANDS
    }
    assert not {(i, n) for i, n in named if n not in cli.COMMANDS and f"stretch {n}" not in COMING}


def test_no_key_is_told_that_does_nothing(entries: tuple[guide.Entry, ...]) -> None:
    known = bound_keys()
    named = {(e.id, key.lower()) for e in entries for key in KEY.findall(told(e))}
    assert {key for _, key in named} > {"ctrl+k", "f7", "alt+left"}
    assert not {(i, k) for i, k in named if k not in known and k not in COMING | {"f16", "f32"}}


def test_no_option_is_told_that_does_not_exist(entries: tuple[guide.Entry, ...]) -> None:
    known: set[str] = set()
    for name in cli.COMMANDS:
        actions: list[argparse.Action] = cli.parser_of(name)._actions
        known |= {o.removeprefix("--") for action in actions for o in action.option_strings}
    named = {(e.id, option) for e in entries for option in OPTION.findall("\n".join(e.answer))}
    assert named
    assert not {(i, o) for i, o in named if o not in known}


def test_there_are_enough_phrasings(entries: tuple[guide.Entry, ...]) -> None:
    assert not {e.id: len(set(e.ask)) for e in entries if len(set(e.ask)) < 25}
    assert all(len(e.test) >= 2 for e in entries)
    assert sum(len(e.test) for e in entries) >= 200
    assert all(len(e.fresh) == 2 for e in entries)
    assert len({e.id for e in entries}) == len(entries)


def test_no_question_of_the_examination_is_trained_on(entries: tuple[guide.Entry, ...]) -> None:
    """Nor in the same words with other marks or capitals; and each stands only once."""

    def bare(text: str) -> str:
        return re.sub(r"\W+", " ", text.lower()).strip()

    trained = {bare(a) for e in entries for a in e.ask}
    tests = [bare(t) for e in entries for t in (*e.test, *e.fresh)]
    assert not trained & set(tests)
    assert len(tests) == len(set(tests))


def test_every_answer_holds_its_key_fact(entries: tuple[guide.Entry, ...]) -> None:
    for entry in entries:
        assert all(guide.is_right(entry, answer) for answer in entry.answer), entry.id
        assert not guide.is_right(entry, "I do not know."), entry.id
        assert len(entry.answer) >= 2, entry.id


def test_no_phrasing_is_taught_two_answers(entries: tuple[guide.Entry, ...]) -> None:
    owner: dict[str, str] = {}
    twice = set()
    for entry in entries:
        for text in set(entry.ask):
            if owner.setdefault(text.lower(), entry.id) != entry.id:
                twice.add((text, owner[text.lower()], entry.id))
    assert not twice


def test_alternatives_are_spelled_out() -> None:
    assert guide.spelled_out("{a|b} c{?|.}") == ["a c?", "a c.", "b c?", "b c."]
    assert guide.spelled_out("nothing") == ["nothing"]


def test_a_conversation_asks_and_answers() -> None:
    rng = Random(3)
    for _ in range(200):
        turns = guide.make(rng)
        assert [t.role for t in turns] == ["user", "assistant"] * (len(turns) // 2)
        assert not any(t.learn for t in turns[::2]) and all(t.learn for t in turns[1::2])
