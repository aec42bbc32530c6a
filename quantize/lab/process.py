"""The parent's side of the laboratory's child process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, cast

from quantize import child
from quantize.errors import EngineDiedError, EngineError

if TYPE_CHECKING:
    from quantize.lab.opening import Opening


class LabProcess:
    """One child with one loaded model. It is started by the first job, and again after it has died."""

    def __init__(
        self, opening: Opening, log_path: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """
        Args:
            log_path: takes what llama.cpp says.
            environment: variables to set for the child.
        """
        self._opening = opening
        self._log_path = log_path
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._introduction: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        """Of the child, 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def introduction(self) -> dict[str, Any]:
        """What the child says of the model and of the native library.

        Raises:
            StretchError: if the model cannot be loaded.
        """
        if self._process is None or self._introduction is None:
            self._start()
        return cast("dict[str, Any]", self._introduction)

    def run(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Do one job; its events without the last one.

        Raises:
            EngineDiedError: if the process ended, with a sentence about why.
            StretchError: if the job cannot be done.
        """
        _ = self.introduction
        self._send(job)
        while (event := self._receive())["event"] != "end":
            yield event

    def result(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do a job whose only event is its result."""
        return [event for event in self.run(job) if event["event"] != "progress"][-1]

    def close(self) -> None:
        """End the child, whatever it does."""
        process, self._process = self._process, None
        self._introduction = None
        if process is not None:
            process.kill()
            process.wait()
            cast(IO[bytes], process.stdout).close()
            with contextlib.suppress(OSError):
                cast(IO[bytes], process.stdin).close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ the pipes

    def _start(self) -> None:
        self.close()
        try:
            self._log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._log_path.open("ab") as log:
                self._log_start = log.tell()
                self._process = child.start("quantize.lab.worker", log, self._environment)
        except OSError as error:
            raise EngineError(f"The process that measures could not be started: {error.strerror}.") from error
        self._send(self._opening.data())
        self._introduction = self._receive()

    def _send(self, message: dict[str, Any]) -> None:
        try:
            child.send(cast("subprocess.Popen[bytes]", self._process), message)
        except OSError:
            raise self._death() from None

    def _receive(self) -> dict[str, Any]:
        try:
            return child.receive(cast("subprocess.Popen[bytes]", self._process))
        except ValueError:
            raise self._death() from None

    def _death(self) -> EngineDiedError:
        process = cast("subprocess.Popen[bytes]", self._process)
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2.0)  # its pipe closed first
        code = process.poll()
        self.close()
        if code is None:
            code = -signal.SIGKILL
        try:
            log: IO[bytes] = self._log_path.open("rb")
        except OSError:
            log = BytesIO()
        with log:
            return child.death("the process that measured", code, log, self._log_start)
