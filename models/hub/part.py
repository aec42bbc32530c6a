"""A file that is not complete yet, and what is known to be right of it.

``NAME.part`` holds the beginning of the file. ``NAME.part.journal`` says in its first line which
file it will be, and then for every piece how long it is and its CRC. A program that is killed, or
a machine that loses its power, leaves a last piece that no line tells of, or bytes that never
reached the disk: what does not fit the journal is cut off and fetched again, the rest stays.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from models.hub.files import HubFile
from quantize.errors import HubError

PIECE = 1 << 17
"""Bytes after which the journal gets a line: what is lost when the program is killed."""

RESERVE = 256 << 20
"""Bytes that stay free on the disk: a system without any fails in strange places."""

_LONGEST_JOURNAL = 64 << 20
_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file a part belongs to."""

    repo: str
    path: str
    revision: str
    size: int
    digest: str

    @staticmethod
    def of(repo: str, revision: str, file: HubFile) -> Identity:
        """The identity of a file of a repository."""
        return Identity(repo, file.path, revision, file.size, file.digest)


def part_path(target: Path) -> Path:
    """Where the beginning of ``target`` is kept."""
    return target.with_name(f"{target.name}.part")


def journal_path(target: Path) -> Path:
    """Where it is said what is right of it."""
    return target.with_name(f"{target.name}.part.journal")


def read_identity(journal: Path) -> Identity | None:
    """What a journal belongs to, None if it is none."""
    try:
        with journal.open("rb") as file:
            said = json.loads(file.readline(1 << 16))
        found = Identity(**said)
    except (OSError, ValueError, TypeError):
        return None
    texts = (found.repo, found.path, found.revision, found.digest)
    good = all(isinstance(x, str) for x in texts) and isinstance(found.size, int) and found.size >= 0
    return found if good else None


class PartFile:
    """The part of one file, held by one program at a time. Use it in a ``with`` statement.

    Args:
        target: where the complete file will be.
    """

    def __init__(self, target: Path, identity: Identity) -> None:
        self.target = target
        self.identity = identity
        self.done = 0
        """Bytes that are there and known to be right."""
        self._hash = _hasher(identity)
        self._crc = 0
        self._piece = 0
        self._fd = self._journal = -1

    # ------------------------------------------------------------------ opening

    def __enter__(self) -> Self:
        """Open or make the part and take its lock.

        Raises:
            HubError: if another program holds it, or the directory cannot be written.
        """
        try:
            self.target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
            self._fd = os.open(part_path(self.target), flags, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._fd).st_ino != part_path(self.target).stat().st_ino:
                raise BlockingIOError  # it was completed between opening and locking
            self._journal = os.open(journal_path(self.target), flags, 0o600)
        except BlockingIOError:
            self.close()
            raise HubError(
                f"Another Stretch is downloading {self.target.name}.", "Wait for it, or stop it there."
            ) from None
        except OSError as error:
            self.close()
            raise _no_writing(self.target.parent, error) from None
        return self

    def resume(self, tell: Callable[[int], None]) -> bool:
        """Check what is there and cut off what is not known to be right.

        Args:
            tell: called with the bytes that are checked so far; may raise to stop.

        Returns:
            False if what was there belonged to another version of the file and is gone.
        """
        if read_identity(journal_path(self.target)) != self.identity:
            had = os.fstat(self._fd).st_size > 0
            self._begin()
            return not had
        with os.fdopen(os.dup(self._journal), "rb") as journal:
            journal.seek(0)
            good = len(journal.readline())
            while good < _LONGEST_JOURNAL:
                line = journal.readline(64)
                if not self._check(line):
                    break
                good += len(line)
                tell(self.done)
        os.ftruncate(self._fd, self.done)
        os.ftruncate(self._journal, good)
        os.lseek(self._fd, self.done, os.SEEK_SET)
        os.lseek(self._journal, good, os.SEEK_SET)
        return True

    def _begin(self) -> None:
        os.ftruncate(self._fd, 0)
        os.ftruncate(self._journal, 0)
        os.lseek(self._journal, 0, os.SEEK_SET)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self.done, self._piece, self._crc, self._hash = 0, 0, 0, _hasher(self.identity)
        _write(self._journal, json.dumps(asdict(self.identity)).encode() + b"\n")

    def _check(self, line: bytes) -> bool:
        """Whether the next piece is as a line of the journal says."""
        try:
            n_text, crc_text = line.decode("ascii").split()
            n, crc = int(n_text), int(crc_text, 16)
        except ValueError:
            return False
        if not line.endswith(b"\n") or not 0 < n <= self.identity.size - self.done:
            return False
        read, at, left = 0, self.done, n
        hasher = self._hash.copy()
        while left:
            data = os.pread(self._fd, min(left, _READ), at)
            if not data:
                return False
            read = zlib.crc32(data, read)
            hasher.update(data)
            at, left = at + len(data), left - len(data)
        if read != crc:
            return False
        self._hash, self.done = hasher, at
        return True

    # ------------------------------------------------------------------ writing

    def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            HubError: if the disk is full; what was written stays.
        """
        try:
            _write(self._fd, data)
        except OSError as error:
            os.ftruncate(self._fd, self.done)
            self.flush()
            raise _no_space(self, error) from None
        self._hash.update(data)
        self._crc = zlib.crc32(data, self._crc)
        self._piece += len(data)
        self.done += len(data)
        if self._piece >= PIECE:
            self.flush()

    def flush(self) -> None:
        """Let the journal tell of everything that was written; where it cannot, the piece is lost."""
        if self._piece:
            with suppress(OSError):
                _write(self._journal, b"%d %08x\n" % (self._piece, self._crc))
            self._piece, self._crc = 0, 0

    def check_space(self) -> None:
        """Check that the rest fits on the disk.

        Raises:
            HubError: if it does not.
        """
        free = free_bytes(self.target.parent)
        missing = self.identity.size - self.done
        if free < missing + RESERVE:
            raise HubError(
                f"There is not enough room for {self.target.name}: {_size(missing)} are to come, "
                f"and {_size(free)} are free on this disk.",
                f"Free {_size(missing + RESERVE - free)} and go on; what is here is kept.",
            )

    # ------------------------------------------------------------------ the end

    def finish(self) -> None:
        """Check the whole file against the hub's hash and put it in its place.

        Raises:
            HubError: if it is not what the hub promised; it is removed then, and what was in its place stays.
        """
        self.flush()
        kind, _, wanted = self.identity.digest.partition(":")
        if self.done != self.identity.size or self._hash.hexdigest() != wanted:
            self.discard()
            raise HubError(
                f"What arrived of {self.target.name} is not the file of the hub (its {kind} differs).",
                "It was removed. Try again; if it happens again, the mirror or the proxy is at fault.",
            )
        try:
            os.fsync(self._fd)
            part_path(self.target).replace(self.target)
        except OSError as error:
            raise _no_writing(self.target.parent, error) from None
        with suppress(OSError):
            journal_path(self.target).unlink()
            _sync_directory(self.target.parent)

    def discard(self) -> None:
        """Remove what is there."""
        for path in (part_path(self.target), journal_path(self.target)):
            with suppress(OSError):
                path.unlink()

    def close(self) -> None:
        """Let go of the files; what is there can be resumed."""
        if self._fd >= 0 and self._journal >= 0:
            self.flush()
        for fd in (self._fd, self._journal):
            if fd >= 0:
                os.close(fd)
        self._fd = self._journal = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def digest_of(path: Path, identity: Identity, tell: Callable[[int], None]) -> str:
    """The hash of a file in the form of ``HubFile.digest``; ``tell`` hears the bytes read so far."""
    hasher = _hasher(identity)
    done = 0
    with path.open("rb") as file:
        while data := file.read(_READ):
            hasher.update(data)
            done += len(data)
            tell(done)
    return f"{identity.digest.partition(':')[0]}:{hasher.hexdigest()}"


def free_bytes(directory: Path) -> int:
    """Bytes that this user may still write on the disk of ``directory``."""
    while not directory.exists() and directory != directory.parent:
        directory = directory.parent
    stat = os.statvfs(directory)
    return stat.f_bavail * stat.f_frsize


def _hasher(identity: Identity) -> Any:
    if identity.digest.startswith("git:"):
        return hashlib.sha1(b"blob %d\0" % identity.size, usedforsecurity=False)
    return hashlib.sha256()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _no_space(part: PartFile, error: OSError) -> HubError:
    here = f"{_size(part.done)} of {_size(part.identity.size)} of {part.target.name} are here"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HubError(
            f"The disk is full: {here}.",
            f"Free {_size(part.identity.size - part.done + RESERVE)} and go on; what is here is kept.",
        )
    return HubError(f"The file cannot be written ({error.strerror}): {here}.", "What is here is kept.")


def _no_writing(directory: Path, error: OSError) -> HubError:
    return HubError(
        f"Nothing can be written in {directory}: {error.strerror}.",
        "Check its permissions, or set STRETCH_HOME to a directory of your own.",
    )


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _size(n: int) -> str:
    return f"{n / 2**30:.2f} GiB" if n >= 2**30 else f"{n / 2**20:.1f} MiB"
