"""What a parked file says of itself: read alone, it tells which files belong together.

Needs neither numpy nor the engine: the interface reads it to count what conversations take on the disk.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from quantize.errors import StateError

MAGIC = b"STRETCHK"
VERSION = 3
MAX_HEADER = 1 << 20
MAX_TOKENS = 1 << 26
MAX_CHAIN = 16
"""Files that one conversation may be spread over."""
DIGEST = 16
START = struct.Struct("<8sII")
BEGINNING = ".beginning"
"""The ending of the name of a file that conversations share."""

DAMAGED = "The file of the parked conversation is damaged."
OTHER_VERSION = "The conversation was parked by another version of Stretch."


@dataclass(frozen=True, slots=True)
class About:
    """What a file says of itself."""

    fingerprint: str
    """Of the model."""
    setting: str
    """The codec with its setting, as ``codec.parse`` takes it."""
    profile: str
    """Digest of the calibration, empty if the codec needs none."""
    tables: str
    """Digest of the entropy coder's distributions."""
    n_tokens: int
    """Of the conversation, those of its beginning too."""
    cells: tuple[int, ...]
    """Of each part, in this file."""
    type_k: int
    """ggml's type ids of the cache that was parked: the exact rows are kept as they were."""
    type_v: int
    f16_bytes: int
    """Of all cells of the conversation in an f16 cache, for the figures."""
    conversation: int = 0
    """Whose it is; 0 if nobody's."""
    created: float = 0.0
    """Seconds since the epoch."""
    beginning: str = ""
    """The key of the file with the cells of the first tokens; empty if they are in this file."""
    start: int = 0
    """How many tokens these are."""
    n_gone: int = 0
    """Cells that a prune took; this and what follows as ``Pruned`` of the engine says it."""
    whole_from: int = 0
    composite: bool = False
    """Whether cells hold other tokens in every layer and head."""
    centring: int = 0
    """Id of what K in the file's own rows lacks (``quantize.centring``); 0 for nothing."""


class BeginningError(StateError):
    """The beginning that a conversation shares cannot be used."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        """Of the file that is to blame; it may be missing."""


def beginning_path(folder: Path, key: str) -> Path:
    """Where the shared beginning with this key is."""
    return folder / f"{key}{BEGINNING}"


def read_about(path: Path) -> About:
    """The header of a file.

    Raises:
        StateError: if it is damaged, or of another version.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return take_about(file)[0]


def chain(path: Path) -> list[Path]:
    """The shared beginnings of a file, the nearest first; those that are there, up to one that is not."""
    found: list[Path] = []
    try:
        about = read_about(path)
        while about.beginning and len(found) < MAX_CHAIN:
            path = beginning_path(path.parent, about.beginning)
            about = read_about(path)
            found.append(path)
    except (StateError, OSError):
        pass
    return found


def complete(path: Path) -> bool:
    """Whether all beginnings of a file are there."""
    try:
        return not read_about([path, *chain(path)][-1]).start
    except (StateError, OSError):
        return False


def take_about(file: IO[bytes]) -> tuple[About, bytes]:
    """Read the beginning of an open file: the header and its digest.

    Raises:
        StateError: if it is damaged, or of another version.
    """
    magic, version, length = START.unpack(_take(file, START.size))
    if magic != MAGIC:
        raise StateError("This is not the file of a parked conversation.")
    if version != VERSION:
        raise StateError(OTHER_VERSION)
    if length > MAX_HEADER:
        raise StateError(DAMAGED)
    header, key = _take(file, length), _take(file, DIGEST)
    if hashlib.blake2b(header, digest_size=DIGEST).digest() != key:
        raise StateError(DAMAGED)
    return _about(header), key


def _take(file: IO[bytes], n: int) -> bytes:
    data = file.read(n)
    if len(data) != n:
        raise StateError(DAMAGED)
    return data


def _about(header: bytes) -> About:
    try:
        fields: dict[str, Any] = json.loads(header)
        cells = tuple(int(n) for n in fields.pop("cells"))
        about = About(cells=cells, **fields)
        numbers = [about.n_tokens, about.type_k, about.type_v, about.f16_bytes, about.conversation]
        numbers += [about.start, about.n_gone, about.whole_from, about.centring]
        texts = (about.fingerprint, about.setting, about.profile, about.tables, about.beginning)
        good = all(type(n) is int and n >= 0 for n in numbers) and all(isinstance(t, str) for t in texts)
        good = good and isinstance(about.created, int | float) and about.n_tokens <= MAX_TOKENS
        good = good and len(cells) <= 3 and all(0 <= n <= about.n_tokens for n in cells)
        good = good and isinstance(about.composite, bool)
        good = good and about.start < max(about.n_tokens, 1) and bool(about.start) == bool(about.beginning)
        good = good and set(about.beginning) <= set("0123456789abcdef")
        good = good and max(about.n_gone, about.whole_from) <= about.n_tokens
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise StateError(DAMAGED) from error
    if not good:
        raise StateError(DAMAGED)
    return about
