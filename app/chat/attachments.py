"""Files that are attached with ``@path``: found in a message, read with care."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from app.decoding import decode
from app.store.records import Attachment
from quantize.errors import UsageError

LARGEST = 2 * 1024 * 1024
"""Bytes. More text than any context holds; a larger file is refused."""

_MENTION = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|(\S+))')
_TRAILING = ".,;:!?)]}'"


@dataclass(frozen=True, slots=True)
class Mention:
    """``@path`` in a message."""

    path: str
    start: int
    end: int


def mentions(text: str) -> list[Mention]:
    """Every ``@path`` in ``text``; punctuation after a path belongs to the sentence, not to it."""
    found = []
    for match in _MENTION.finditer(text):
        path = match[1] or match[2]
        end = match.end()
        if match[1] is None and not _is_file(path):
            bare = path.rstrip(_TRAILING)
            if bare != path and _is_file(bare):
                end -= len(path) - len(bare)
                path = bare
        found.append(Mention(path, match.start(), end))
    return found


def resolve(path: str) -> Path:
    """A path as the user typed it, from the working directory."""
    return Path(path).expanduser()


def missing(text: str) -> list[str]:
    """What is written like a file of ``text``, with a dot or a slash, and is none: a sentence for each."""
    paths = dict.fromkeys(mention.path for mention in mentions(text) if not _is_file(mention.path))
    return [
        f"{path} is a folder; name a file in it" if _is_folder(path) else f"there is no file {path}"
        for path in paths
        if "/" in path or "." in path.strip(_TRAILING) or _is_folder(path)
    ]


def _is_folder(path: str) -> bool:
    try:
        return resolve(path).is_dir()
    except (OSError, ValueError, RuntimeError):
        return False


def _is_file(path: str) -> bool:
    try:
        return resolve(path).is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def read(path: str) -> Attachment:
    """Read a text file.

    Raises:
        UsageError: if it is too large, cannot be read, or is neither UTF-8 nor marked UTF-16.
    """
    file = resolve(path)
    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) > LARGEST:
        raise UsageError(
            f"{path} is larger than {LARGEST // 1024 // 1024} MiB.", "Attach the part that matters."
        )
    text = decode(data, path, "Only text can be attached.", "Save it as UTF-8 and attach it again.")
    return Attachment(path, text)


def collect(text: str) -> list[Attachment]:
    """The files that ``text`` mentions and that exist, each once.

    Raises:
        UsageError: if one of them cannot be attached.
    """
    paths = dict.fromkeys(mention.path for mention in mentions(text) if _is_file(mention.path))
    return [read(path) for path in paths]


def estimate(n_bytes: int) -> int:
    """Tokens of a text of this size, roughly: four bytes each in most languages."""
    return -(-n_bytes // 4)
