"""A file that appears under its name only when it is complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from app.engine.words import size
from quantize.errors import UsageError

SPARE = 64 << 20
"""Bytes of the disk that stay free."""


def destination(target: Path, name: str, source: Path | None, *, overwrite: bool) -> Path:
    """Where the file goes.

    Args:
        target: a file or a directory.
        name: of the file, if ``target`` is a directory.
        source: the file that it is made from.

    Raises:
        UsageError: if that cannot be written, or would replace something.
    """
    place = target.expanduser()
    if place.is_dir():
        place /= name
    if not place.parent.is_dir():
        raise UsageError(f"There is no directory {place.parent}.", "Make it first.")
    if source is not None and place.exists() and place.samefile(source):
        raise UsageError("The model would be written over itself.", "Give another name.")
    if place.exists() and not (overwrite and place.is_file()):
        raise UsageError(f"{place} exists.", "Give another name, or --overwrite.")
    if not os.access(place.parent, os.W_OK):
        raise UsageError(f"{place.parent} may not be written to.", "Give another directory.")
    return place


def check_disk(place: Path, n_bytes: int) -> None:
    """Check that there is room for ``n_bytes``.

    Raises:
        UsageError: if there is not.
    """
    free = shutil.disk_usage(place.parent).free
    if n_bytes + SPARE > free:
        raise UsageError(
            f"The file takes {size(n_bytes)}, and {size(free)} of the disk are free.",
            "Free some space, or write it to another disk.",
        )


@contextmanager
def new_file(place: Path, *, overwrite: bool) -> Iterator[Path]:
    """The path to write to. When the block ends well the file is moved to ``place``, else it is removed.

    Raises:
        UsageError: if another file has appeared there meanwhile.
    """
    _sweep(place)
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        _publish(part, place, overwrite=overwrite)
    finally:
        part.unlink(missing_ok=True)


def _publish(part: Path, place: Path, *, overwrite: bool) -> None:
    if overwrite:
        part.replace(place)
        return
    try:
        place.hardlink_to(part)  # unlike a rename it never replaces anything
    except FileExistsError:
        raise UsageError(f"{place} has appeared meanwhile.", "Give another name.") from None
    except OSError:  # a file system without links
        if place.exists():
            raise UsageError(f"{place} has appeared meanwhile.", "Give another name.") from None
        part.rename(place)


def _sweep(place: Path) -> None:
    """Remove what a process that was killed has left."""
    for left in place.parent.glob(f".{_plain(place.name)}.*.part"):
        pid = left.name.removesuffix(".part").rpartition(".")[2]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            left.unlink(missing_ok=True)


def _plain(name: str) -> str:
    """A name in a pattern of ``glob``."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
