"""The parent's side of the child process that works on the weights of files.

One job, one child: it reads the job from its standard input and writes a line of JSON per event. When the
caller stops early, by closing the iterator or by an exception, the child is ended.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import quantize
from quantize import errors
from quantize.errors import EngineDiedError, EngineError, StretchError

_ROOT = str(Path(quantize.__file__).resolve().parents[1])
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from quantize.weights.worker import main; main()"
_TELLING = re.compile(r"GGML_ASSERT|GGML_ABORT|what\(\):|[Ee]rror|failed|Traceback")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_LOG_TAIL = 65536


@dataclass(frozen=True, slots=True)
class QuantizeJob:
    """What to quantize, and how."""

    source: str
    """The file, or the first of its parts."""
    target: str
    """The file to write; it is overwritten. Empty: only say what would be written."""
    file_type: int
    """``enum llama_ftype``."""
    n_threads: int = 2
    tensor_types: tuple[tuple[str, int], ...] = ()
    """Patterns of names and the ggml type of the tensors that they find."""
    embedding_type: int | None = None
    """ggml type of the token embedding; None leaves it to llama.cpp."""
    output_type: int | None = None
    """The same for the output matrix."""
    pure: bool = False
    """Give every matrix the type of the file."""
    importance: str = ""
    """A file with importance matrices, or empty."""

    def data(self) -> dict[str, Any]:
        """For JSON."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {"job": "quantize", **fields}


@dataclass(frozen=True, slots=True)
class LossJob:
    """Two files of one model whose answers to a text are compared."""

    reference: str
    other: str
    text: str
    n_tokens: int
    n_threads: int = 2

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {"job": "loss", **{name: getattr(self, name) for name in self.__slots__}}


def run(job: QuantizeJob | LossJob) -> Iterator[dict[str, Any]]:
    """Do one job; its events.

    ``quantize`` gives ``{"event": "tensor", "n", "of", "name"}`` for each tensor, in a dry run with its
    new ``"type"`` (empty if it stays as it is); ``loss`` gives ``{"event": "progress", "n"}``. Both end with
    ``{"event": "done"}``, that of ``loss`` with the fields of ``quantize.lab.divergence.Summary`` and
    ``reference_ppl``.

    Raises:
        StretchError: if the job cannot be done.
        EngineDiedError: if the child ended without saying why.
    """
    with tempfile.TemporaryFile() as log:
        try:
            child = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, _ROOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"GGML_NO_BACKTRACE": "1"},
            )
        except OSError as error:
            raise EngineError(f"The quantizer could not be started: {error.strerror}.") from error
        with child:
            try:
                yield from _events(child, job.data(), log)
            finally:
                child.kill()


def _events(child: subprocess.Popen[bytes], job: dict[str, Any], log: IO[bytes]) -> Iterator[dict[str, Any]]:
    stdin, stdout = cast(IO[bytes], child.stdin), cast(IO[bytes], child.stdout)
    try:
        stdin.write(json.dumps(job).encode() + b"\n")
        stdin.flush()
    except OSError:
        raise _death(child, log) from None
    while True:
        try:
            event = json.loads(stdout.readline())
        except ValueError:
            raise _death(child, log) from None
        if event["event"] == "failed":
            kind = getattr(errors, event["kind"], StretchError)
            raise kind(event["message"], event["hint"])
        yield event
        if event["event"] == "done":
            return


def _death(child: subprocess.Popen[bytes], log: IO[bytes]) -> EngineDiedError:
    """Why the child ended."""
    try:
        code = child.wait(5.0)  # its pipe closed first
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL))
    lines = log.read().decode("utf-8", "replace").splitlines()
    words = next((line for line in reversed(lines) if _TELLING.search(line)), "")
    words = _CONTROL.sub(" ", re.sub(r"^\S*/(?=[\w.-]+\.c)", "", words)).strip()[:300]
    because = f": {words}" if words else "."
    if code == -signal.SIGKILL:
        return EngineDiedError("The system ended the quantizer, most likely because memory ran out.")
    if code == -signal.SIGABRT:
        return EngineDiedError(f"llama.cpp stopped itself after an internal check failed{because}")
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return EngineDiedError(f"The quantizer ended ({name}){because}")
