"""One SQLite file: opened, brought to the present schema, guarded against damage and other processes."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from app.paths import private_dir
from app.store import search_index
from app.store.schema import STEPS, statements
from quantize.errors import StoreError

BUSY_S = 5.0
"""How long to wait for another process that writes."""
CHECK_AT_MOST = 24 << 20
"""Files up to this many bytes are checked whenever they are opened (some 0.05 s at this size)."""

_CORRUPT, _NOT_A_DATABASE, _FULL, _BUSY, _LOCKED, _READ_ONLY, _CANNOT_OPEN = 11, 26, 13, 5, 6, 8, 14


class DamagedError(Exception):
    """The file is no database, or a damaged one."""


def _is_damage(error: sqlite3.Error) -> bool:
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (_CORRUPT, _NOT_A_DATABASE)


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """What an error of SQLite means for the person."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == _FULL:
        return StoreError("The disk is full, so the conversation could not be saved.", "Free some space.")
    if code in (_BUSY, _LOCKED):
        return StoreError(
            "Another program has kept the conversations locked for too long.",
            f"See which program uses {path}.",
        )
    if code == _READ_ONLY:
        return StoreError(f"The conversations in {path} cannot be written.", "Check the permissions.")
    if code == _CANNOT_OPEN:
        return StoreError(
            f"The conversations in {path} cannot be opened for writing.",
            "Check the permissions, or set STRETCH_HOME to another directory.",
        )
    if _is_damage(error):
        return StoreError(
            f"The database of conversations is damaged ({error}).",
            "Start Stretch again: it moves the file aside and takes over what can be read.",
        )
    return StoreError(f"The database of conversations failed: {error}.", f"The file is {path}.")


class Database:
    """A connection that threads share, one at a time."""

    def __init__(self, path: Path, *, steps: Sequence[str] = STEPS, index_words: bool = True) -> None:
        """Open ``path``, making it or bringing it to the newest of ``steps``.

        Args:
            index_words: False works without the search index, as where SQLite lacks FTS5.

        Raises:
            DamagedError: if the file is not a sound database; nothing was changed.
            StoreError: if it cannot be opened, or comes from a newer version.
        """
        self.path = path
        self.has_words = False
        """Whether the search index can be used."""
        self._lock = threading.RLock()
        self._suspicion = path.with_name(f"{path.name}.check")
        private_dir(path.parent)
        try:
            if not path.exists():
                path.touch(mode=0o600)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise StoreError(
                f"The database {path} cannot be opened: {reason}.", "Check the permissions."
            ) from error
        try:
            self._prepare(steps, index_words)
        except sqlite3.Error as error:
            self._connection.close()
            if _is_damage(error):
                raise DamagedError(str(error)) from error
            raise explain(error, path) from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file. Calling it again does nothing."""
        with self._lock:
            self._connection.close()

    # ------------------------------------------------------------------ opening

    def _prepare(self, steps: Sequence[str], index_words: bool) -> None:
        c = self._connection
        c.row_factory = sqlite3.Row
        c.text_factory = lambda data: data.decode("utf-8", "replace")
        c.execute("PRAGMA schema_version").fetchone()  # fails here if it is no database
        self._write_ahead()
        c.execute("PRAGMA foreign_keys = ON")
        c.execute("PRAGMA secure_delete = ON")  # what is deleted is gone from the disk too
        suspected = self._suspicion.exists()
        if suspected or self.path.stat().st_size <= CHECK_AT_MOST:
            check = "integrity_check" if suspected else "quick_check"
            found = c.execute(f"PRAGMA {check}(1)").fetchone()[0]
            if found != "ok":
                raise DamagedError(found)
        self._migrate(steps)
        self._index(index_words, renew=suspected)
        self._suspicion.unlink(missing_ok=True)

    def _write_ahead(self) -> None:
        """Readers and a writer at the same time, also in several processes."""
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # Two processes that switch a new file at once do not wait for each other by themselves.
                if (error.sqlite_errorcode & 0xFF) != _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self, steps: Sequence[str]) -> None:
        version = self._version()
        if version > len(steps):
            raise StoreError(
                f"The conversations in {self.path} were written by a newer version of Stretch.",
                "Update Stretch, or set STRETCH_HOME to another directory.",
            )
        if version == len(steps):
            return
        if version:
            self._keep_copy(version)
        with self.write() as c:
            version = self._version()  # another process may have been faster
            for script in steps[version:]:
                for statement in statements(script):
                    c.execute(statement)
            c.execute(f"PRAGMA user_version = {len(steps)}")

    def _keep_copy(self, version: int) -> None:
        """Keep the file as it was before a migration."""
        copy = self.path.with_name(f"{self.path.name}.version-{version}")
        if not copy.exists():
            target = sqlite3.connect(copy)
            try:
                self._connection.backup(target)
            finally:
                target.close()

    def _index(self, wanted: bool, *, renew: bool) -> None:
        wanted = wanted and search_index.available(self._connection)
        if renew or search_index.usable(self._connection) != wanted:
            with self.write() as c:
                search_index.remove(c)
                if wanted:
                    search_index.make(c)
        self.has_words = wanted

    # ------------------------------------------------------------------ using it

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The connection, for queries. Fetch everything before leaving.

        Raises:
            StoreError: for what goes wrong in SQLite.
        """
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise self._explained(error) from error

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction: committed at the end, undone if anything is raised.

        Args:
            durable: wait until the disk has it. Otherwise the end of this process loses nothing
                either, but a power cut can lose it.

        Raises:
            StoreError: for what goes wrong in SQLite.
        """
        with self._lock:
            c = self._connection
            try:
                c.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                c.execute("BEGIN IMMEDIATE")
                try:
                    yield c
                    c.execute("COMMIT")
                except BaseException:
                    if c.in_transaction:
                        c.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error) -> StoreError:
        """The error for the person; damage is remembered, so that the next start checks the whole file."""
        if _is_damage(error):
            with suppress(OSError):
                self._suspicion.touch()
        return explain(error, self.path)

    def problems(self) -> list[str]:
        """A thorough check: what SQLite finds wrong, nothing if all is well."""
        with self.read() as c:
            found = [str(row[0]) for row in c.execute("PRAGMA integrity_check(10)")]
            found += [
                f"row {row['rowid']} of {row['table']} refers to nothing"
                for row in c.execute("PRAGMA foreign_key_check")
            ]
        problems = [line for line in found if line != "ok"]
        if self.has_words:
            try:
                with self.write() as c:
                    search_index.check(c)
            except StoreError as error:
                problems.append(f"the search index: {error.message}")
        return problems
