"""Child processes that work with llama.cpp, so that its death ends one piece of work only.

Both ends of the pipes: the parent writes lines of JSON, the child answers with a line of JSON per event.
An error is an event, too: ``{"event": "failed", "kind", "message", "hint"}``. What llama.cpp says goes into
a log.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, cast

import quantize
from quantize import errors
from quantize.errors import EngineDiedError, StretchError

Emit = Callable[[dict[str, Any]], None]

LOG_TAIL = 65536
"""Bytes at the end of a log in which the reason of a death is looked for."""

TELLING = re.compile(r"GGML_ASSERT|GGML_ABORT|what\(\):|[Ee]rror|failed|Traceback")
"""What the lines of a log say that tell why a process died."""

_ROOT = str(Path(quantize.__file__).resolve().parents[1])
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

# --------------------------------------------------------------------------- the parent


def start(
    module: str, log: IO[bytes], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Run ``main`` of a module in a child with pipes for its input and its output.

    Args:
        environment: variables to set for the child.

    Raises:
        OSError: if it cannot be started.
    """
    boot = f"import sys; sys.path.insert(0, sys.argv[1]); from {module} import main; main()"
    return subprocess.Popen(
        [sys.executable, "-P", "-c", boot, _ROOT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        start_new_session=True,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"} | dict(environment or {}),
    )


def send(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    """Write one message.

    Raises:
        OSError: if nobody reads it any more.
    """
    stdin = cast(IO[bytes], process.stdin)
    stdin.write(json.dumps(message).encode() + b"\n")
    stdin.flush()


def receive(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The next event.

    Raises:
        ValueError: if there is none: the child is dead.
        StretchError: the one that the child reports.
    """
    event = json.loads(cast(IO[bytes], process.stdout).readline())
    if event["event"] == "failed":
        raise errors.reported(event["kind"], event["message"], event["hint"])
    return cast("dict[str, Any]", event)


def death(who: str, code: int, log: IO[bytes], log_start: int = 0) -> EngineDiedError:
    """What happened to a child that ended with ``code``, for the user.

    Args:
        who: what the child was: ``the quantizer``.
        log_start: where its part of the log begins.
    """
    log.seek(max(log_start, log.seek(0, os.SEEK_END) - LOG_TAIL))
    lines = log.read().decode("utf-8", "replace").splitlines()
    words = next((line for line in reversed(lines) if TELLING.search(line)), "")
    words = _CONTROL.sub(" ", re.sub(r"^\S*/(?=[\w.-]+\.c)", "", words)).strip()[:300]
    return EngineDiedError(_sentence(who, code, words))


def _sentence(who: str, code: int, words: str) -> str:
    because = f": {words}" if words else "."
    began = who[0].upper() + who[1:]
    if code == -signal.SIGKILL:
        return f"The system ended {who}, most likely because memory ran out."
    if code == -signal.SIGABRT:
        return f"llama.cpp stopped itself after an internal check failed{because}"
    if code < 0:
        return f"{began} crashed ({signal.Signals(-code).name})" + (f" after: {words}" if words else ".")
    return f"{began} ended with exit code {code}{because}"


# --------------------------------------------------------------------------- the child


def open_events() -> Emit:
    """Make the standard output a way for events only; what the C library prints goes to the log.

    Returns:
        Sends an event, and ends the process if nobody waits for it any more.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(event: dict[str, Any]) -> None:
        try:
            events.write(json.dumps(event) + "\n")
            events.flush()
        except BrokenPipeError:
            os._exit(0)

    return emit


def failed(error: StretchError) -> dict[str, Any]:
    """The event that ``receive`` raises as ``error``."""
    return {"event": "failed", "kind": type(error).__name__, "message": error.message, "hint": error.hint}


def log_problems(level: int, text: str) -> None:
    """For ``send_log_to``: warnings, errors and what continues them."""
    if level >= 3:
        sys.stderr.write(text)
        sys.stderr.flush()
