"""What could follow at the cursor: commands, their arguments, files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from app.chat.attachments import LARGEST, estimate, resolve
from app.chat.commands import BY_NAME, COMMANDS, SlashCommand
from app.chat.format import count, size
from app.chat.keys import key_name
from app.plain_text import one_line

MOST = 200
"""Candidates that are offered at once; a directory may hold any number of files."""

_COMMAND = re.compile(r"/([A-Za-z_-]*)$")
_ARGUMENT = re.compile(r"/([A-Za-z_-]+)\s+(.*)$")
_FILE = re.compile(r'(?<!\S)@("?)([^"\n]*)$')


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that could follow."""

    insert: str
    """What takes the place of what was typed."""
    label: str
    detail: str = ""
    goes_on: bool = False
    """Accepting it leads to more candidates (a directory)."""
    runs: bool = False
    """Accepting it with Enter is enough to run the command."""


@dataclass(frozen=True, slots=True)
class Completion:
    """Candidates for the text between ``start`` and the cursor."""

    kind: Literal["command", "argument", "file"]
    start: int
    candidates: tuple[Candidate, ...]


Arguments = Callable[[str], Sequence[Candidate]]
"""Gives the candidates for the argument of a command, by the command's name."""


def complete(before: str, arguments: Arguments) -> Completion | None:
    """What could stand at the cursor, given the text of the message before it."""
    if match := _COMMAND.fullmatch(before):
        found = tuple(_command(c) for c in matching_commands(match[1]))
        return Completion("command", 0, found) if found else None
    if (match := _ARGUMENT.fullmatch(before)) and match[1].lower() in BY_NAME:
        name, typed = BY_NAME[match[1].lower()].name, match[2]
        found = tuple(c for c in arguments(name) if _matches(c.insert, typed) and c.insert.strip() != typed)
        return Completion("argument", match.start(2), found[:MOST]) if found else None
    if match := _FILE.search(before):
        if not match[1] and " " in match[2]:
            return None
        found = tuple(files(match[2]))
        return Completion("file", match.start(), found) if found else None
    return None


def matching_commands(typed: str) -> list[SlashCommand]:
    """Commands that begin with what was typed, then those that hold it."""
    typed = typed.lower()
    begin = [c for c in COMMANDS if any(n.startswith(typed) for n in (c.name, *c.aliases))]
    hold = [c for c in COMMANDS if c not in begin and typed in c.name]
    return begin + hold


def _command(command: SlashCommand) -> Candidate:
    label = f"/{command.name} {command.args}".strip()
    detail = command.summary + (f"  {key_name(command.key)}" if command.key else "")
    insert = f"/{command.name}" + (" " if command.args else "")
    return Candidate(insert, label, detail, runs=not command.needs_args)


def _matches(candidate: str, typed: str) -> bool:
    return typed.lower() in candidate.lower()


def files(typed: str) -> Iterable[Candidate]:
    """Files and directories that ``typed`` could become, directories first."""
    folder, _, beginning = typed.rpartition("/")
    shown = f"{folder}/" if "/" in typed else ""
    found: list[tuple[bool, bool, str, int]] = []
    try:
        with os.scandir(resolve(shown or ".")) as entries:
            for entry in entries:
                if entry.name.startswith(".") and not beginning.startswith("."):
                    continue
                if beginning.lower() not in entry.name.lower()[: 1 if beginning == "." else None]:
                    continue
                is_dir = entry.is_dir()
                n_bytes = 0 if is_dir else entry.stat().st_size
                starts = entry.name.lower().startswith(beginning.lower())
                found.append((not starts, not is_dir, entry.name, n_bytes))
                if len(found) >= 20 * MOST:
                    break
    except (OSError, ValueError, RuntimeError):
        return
    for _, is_file, name, n_bytes in sorted(found, key=lambda f: (f[0], f[1], f[2].lower()))[:MOST]:
        yield _file(shown + name, name, n_bytes) if is_file else _folder(shown + name, name)


def _quoted(path: str, *, closed: bool) -> str:
    if " " not in path:
        return f"@{path}"
    return f'@"{path}"' if closed else f'@"{path}'


def _folder(path: str, name: str) -> Candidate:
    return Candidate(_quoted(path + "/", closed=False), f"{one_line(name)}/", goes_on=True)


def _file(path: str, name: str, n_bytes: int) -> Candidate:
    if n_bytes > LARGEST:
        detail = f"{size(n_bytes)}, too large"
    else:
        n = estimate(n_bytes)
        detail = f"{size(n_bytes)}, about {count(n)} token{'' if n == 1 else 's'}"
    return Candidate(_quoted(path, closed=True) + " ", one_line(name), detail)
