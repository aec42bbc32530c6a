"""The files of parked conversations: where they are, what they take, and which go first."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from app import paths


@dataclass(frozen=True, slots=True)
class ParkedFile:
    """One file."""

    path: Path
    conversation: int
    n_bytes: int
    used: float
    """When it was written or resumed last, seconds since the epoch."""


def parked_files() -> list[ParkedFile]:
    """All parked conversations, the one that was used last first."""
    found = []
    with contextlib.suppress(OSError):
        for path in paths.parked_dir().glob("*.park"):
            if path.stem.isdigit():
                with contextlib.suppress(OSError):
                    s = path.stat()
                    found.append(ParkedFile(path, int(path.stem), s.st_size, s.st_mtime))
    return sorted(found, key=lambda f: f.used, reverse=True)


def parked_path(conversation: int) -> Path:
    """Where the cache of a conversation is put away."""
    return paths.parked_dir() / f"{conversation}.park"


def drop(conversation: int) -> None:
    """Remove what is parked of a conversation."""
    with contextlib.suppress(OSError):
        parked_path(conversation).unlink(missing_ok=True)


def keep_within(budget: int) -> int:
    """Remove the files that were used longest ago until the rest takes ``budget`` bytes. How many went."""
    gone = 0
    taken = 0
    for file in parked_files():
        taken += file.n_bytes
        if taken > budget:
            taken -= file.n_bytes
            drop(file.conversation)
            gone += 1
    return gone
