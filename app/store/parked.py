"""The files of parked conversations: where they are, what they take, and which go first."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from app import paths
from quantize.park.header import BEGINNING, chain


@dataclass(frozen=True, slots=True)
class ParkedFile:
    """One conversation's file."""

    path: Path
    conversation: int
    n_bytes: int
    """Of this file."""
    used: float
    """When it was written or resumed last, seconds since the epoch."""
    beginnings: tuple[Path, ...] = ()
    """The files that have its first cells, which others may need as well."""

    @property
    def shared_bytes(self) -> int:
        """Of its beginnings."""
        return sum(map(_size, self.beginnings))


def parked_files() -> list[ParkedFile]:
    """All parked conversations, the one that was used last first."""
    found = []
    with contextlib.suppress(OSError):
        for path in paths.parked_dir().glob("*.park"):
            if path.stem.isdigit():
                with contextlib.suppress(OSError):
                    s = path.stat()
                    beginnings = tuple(chain(path))
                    found.append(ParkedFile(path, int(path.stem), s.st_size, s.st_mtime, beginnings))
    return sorted(found, key=lambda f: f.used, reverse=True)


def parked_bytes(files: list[ParkedFile]) -> int:
    """What the files take together; what several share counts once."""
    return sum(f.n_bytes for f in files) + sum(_size(p) for p in {p for f in files for p in f.beginnings})


def parked_path(conversation: int) -> Path:
    """Where the cache of a conversation is put away."""
    return paths.parked_dir() / f"{conversation}.park"


def drop(conversation: int) -> None:
    """Remove what is parked of a conversation, and of its beginning what no other one needs."""
    with contextlib.suppress(OSError):
        parked_path(conversation).unlink(missing_ok=True)
    drop_unused()


def drop_all() -> int:
    """Remove everything that is parked. How many conversations."""
    files = parked_files()
    for file in files:
        with contextlib.suppress(OSError):
            file.path.unlink()
    drop_unused()
    return len(files)


def drop_unused() -> None:
    """Remove the beginnings that no conversation needs any more."""
    used = {path for file in parked_files() for path in file.beginnings}
    with contextlib.suppress(OSError):
        for path in paths.parked_dir().glob(f"*{BEGINNING}"):
            if path not in used:
                with contextlib.suppress(OSError):
                    path.unlink()


def keep_within(budget: int) -> int:
    """Remove the files that were used longest ago until the rest takes ``budget`` bytes. How many went.

    What several conversations share counts once, and stays as long as one of them does.
    """
    counted: set[Path] = set()
    gone = taken = 0
    for file in parked_files():
        more = {path for path in file.beginnings if path not in counted}
        n_bytes = file.n_bytes + sum(map(_size, more))
        if taken + n_bytes > budget:
            with contextlib.suppress(OSError):
                file.path.unlink()
            gone += 1
        else:
            counted |= more
            taken += n_bytes
    drop_unused()
    return gone


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
