"""The parent's side of the child process that works on the weights of files.

One job, one child: it reads the job from its standard input and writes a line of JSON per event. When the
caller stops early, by closing the iterator or by an exception, the child is ended.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from quantize import child
from quantize.errors import EngineDiedError, EngineError


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
            process = child.start("quantize.weights.worker", log)
        except OSError as error:
            raise EngineError(f"The quantizer could not be started: {error.strerror}.") from error
        with process:
            try:
                yield from _events(process, job.data(), log)
            finally:
                process.kill()


def _events(
    process: subprocess.Popen[bytes], job: dict[str, Any], log: IO[bytes]
) -> Iterator[dict[str, Any]]:
    try:
        child.send(process, job)
    except OSError:
        raise _death(process, log) from None
    while True:
        try:
            event = child.receive(process)
        except ValueError:
            raise _death(process, log) from None
        yield event
        if event["event"] == "done":
            return


def _death(process: subprocess.Popen[bytes], log: IO[bytes]) -> EngineDiedError:
    """Why the child ended."""
    try:
        code = process.wait(5.0)  # its pipe closed first
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    return child.death("the quantizer", code, log)
