"""The parent's side of the laboratory's child process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, cast

import quantize
from quantize import errors
from quantize.errors import EngineDiedError, EngineError, StretchError

if TYPE_CHECKING:
    from quantize.lab.opening import Opening

_ROOT = str(Path(quantize.__file__).resolve().parents[1])
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from quantize.lab.worker import main; main()"
_TELLING = re.compile(r"GGML_ASSERT|GGML_ABORT|what\(\):|[Ee]rror|failed|Traceback")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_LOG_TAIL = 65536


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
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _BOOT, _ROOT],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                    env=os.environ | {"GGML_NO_BACKTRACE": "1"} | self._environment,
                )
        except OSError as error:
            raise EngineError(f"The process that measures could not be started: {error.strerror}.") from error
        self._send(self._opening.data())
        self._introduction = self._receive()

    def _send(self, message: dict[str, Any]) -> None:
        stdin = cast(IO[bytes], cast("subprocess.Popen[bytes]", self._process).stdin)
        try:
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
        except OSError:
            raise self._death() from None

    def _receive(self) -> dict[str, Any]:
        line = cast(IO[bytes], cast("subprocess.Popen[bytes]", self._process).stdout).readline()
        try:
            event = json.loads(line)
        except ValueError:
            raise self._death() from None
        if event["event"] == "failed":
            kind = getattr(errors, event["kind"], StretchError)
            raise kind(event["message"], event["hint"])
        return cast("dict[str, Any]", event)

    def _death(self) -> EngineDiedError:
        process = cast("subprocess.Popen[bytes]", self._process)
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2.0)  # its pipe closed first
        code = process.poll()
        self.close()
        return EngineDiedError(_sentence(code if code is not None else -signal.SIGKILL, self._last_words()))

    def _last_words(self) -> str:
        """The most telling line that the child left in the log."""
        try:
            with self._log_path.open("rb") as log:
                end = log.seek(0, 2)
                log.seek(max(self._log_start, end - _LOG_TAIL))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        telling = [line for line in lines if _TELLING.search(line)]
        words = re.sub(r"^\S*/(?=[\w.-]+\.c)", "", (telling or [""])[-1])
        return _CONTROL.sub(" ", words).strip()[:300]


def _sentence(code: int, words: str) -> str:
    """What happened to a process that ended with ``code``."""
    if code == -signal.SIGKILL:
        return "The system ended the process that measured, most likely because memory ran out."
    if code == -signal.SIGABRT:
        return "llama.cpp stopped itself after an internal check failed" + (f": {words}" if words else ".")
    if code < 0:
        return f"The process that measured crashed ({signal.Signals(-code).name})" + (
            f" after: {words}" if words else "."
        )
    return f"The process that measured ended with exit code {code}" + (f": {words}" if words else ".")
