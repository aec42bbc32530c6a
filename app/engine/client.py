"""The parent's side of the engine: start the process, send commands, receive events, survive it.

Loads no native library. The process is a fresh interpreter (never a fork), in a session of its
own so that Ctrl-C in the terminal does not reach it; it ends by itself when this end of the pipe
closes, however the parent dies.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

import app
from app.engine import death
from app.engine.protocol import Command, Died, Event, Shutdown
from app.engine.protocol.wire import decode_event, encode, read_lines
from quantize.errors import EngineDiedError, EngineError

_ROOT = str(Path(app.__file__).resolve().parents[1])
# -P and the explicit root: a folder called "app" where the user stands must not be imported.
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from app.engine.worker import main; main(sys.argv[2])"


class EngineClient:
    """One engine process.

    ``start``, ``send`` and ``kill`` never wait for the engine. Events arrive in order from a
    thread of the client's own: the callback must hand them on (``App.call_from_thread``, a queue)
    and return soon. If the process ends unasked the last event is ``Died``; ``start`` may then be
    called again, from the callback too.
    """

    def __init__(self, on_event: Callable[[Event], None], log_path: Path) -> None:
        self.log_path = log_path
        self._on_event = on_event
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._run: _Run | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        run = self._run
        return run is not None and run.process.poll() is None

    @property
    def pid(self) -> int:
        """Process id, 0 before the start; the last one after the end."""
        return self._run.process.pid if self._run else 0

    def next_id(self) -> int:
        """A fresh id for a command."""
        return next(self._ids)

    def start(self) -> None:
        """Start the process. Does nothing if it runs.

        Raises:
            EngineError: if no process can be started.
        """
        with self._lock:
            if self.alive:
                return
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with self.log_path.open("ab") as log:
                    process = subprocess.Popen(
                        [sys.executable, "-P", "-c", _BOOT, _ROOT, str(self.log_path)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        start_new_session=True,
                        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
                    )
            except OSError as error:
                raise EngineError(f"The engine could not be started: {error.strerror}.") from error
            run = _Run(process, _Sender(cast(BinaryIO, process.stdin)))
            run.reader = threading.Thread(target=self._read, args=(run,), name="engine events", daemon=True)
            run.reader.start()
            self._run = run

    def send(self, command: Command) -> None:
        """Send ``command``; returns at once.

        Raises:
            EngineDiedError: if the process does not run (its ``Died`` comes, or came, as an event).
            EngineError: if the command is too long to send.
        """
        line = encode(command)
        run = self._run
        if run is None or run.process.poll() is not None:
            raise EngineDiedError("The engine is not running.", "It can be started again.")
        run.sender.put(line)

    def close(self, timeout: float = 3.0) -> None:
        """End the process in good order, or by force after ``timeout`` seconds. No ``Died`` follows."""
        with self._lock:
            run = self._run
            if run is None:
                return
            run.end_expected = True
            if run.process.poll() is None:
                run.sender.put(encode(Shutdown(self.next_id())))
            run.sender.close()
        try:
            run.process.wait(timeout)
        except subprocess.TimeoutExpired:
            run.process.kill()
            run.process.wait()
        if run.reader not in (None, threading.current_thread()):
            run.reader.join()

    def kill(self) -> None:
        """End the process by force, at once and on purpose: no ``Died`` follows."""
        with self._lock:
            if self._run is not None:
                self._run.end_expected = True
                self._run.process.kill()
                self._run.process.wait()

    def _read(self, run: _Run) -> None:
        process, broken = run.process, ""
        with contextlib.closing(cast(IO[bytes], process.stdout)) as stream:
            try:
                for line in read_lines(cast(BinaryIO, stream)):
                    self._on_event(decode_event(line))
            except (EngineError, OSError) as error:  # not our worker's words: do not go on with it
                broken = str(error)
                process.kill()
        exit_code = process.wait()
        run.sender.close()
        if run.end_expected:
            return
        words = broken or death.last_words(self.log_path, process.pid)
        said = (
            f"The engine's messages could not be read: {words}"
            if broken
            else death.sentence(exit_code, words)
        )
        self._on_event(Died(0, said, exit_code))


@dataclass
class _Run:
    """One life of the engine."""

    process: subprocess.Popen[bytes]
    sender: _Sender
    reader: threading.Thread | None = None
    end_expected: bool = False


class _Sender:
    """Writes lines to a pipe from a thread: a busy engine must never block the interface."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._lines: list[bytes] = []
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._write, name="engine commands", daemon=True).start()

    def put(self, line: bytes) -> None:
        with self._changed:
            self._lines.append(line)
            self._changed.notify()

    def close(self) -> None:
        """Close the pipe after what is waiting was written."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _write(self) -> None:
        # A broken pipe is no news here: the reader sees the end of the process.
        with contextlib.suppress(OSError), contextlib.closing(self._pipe):
            while True:
                with self._changed:
                    while not self._lines and not self._closed:
                        self._changed.wait()
                    if not self._lines:
                        return
                    data = b"".join(self._lines)
                    self._lines.clear()
                self._pipe.write(data)
                self._pipe.flush()
