"""Why a process ended, in a sentence for the user."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from app.engine.words import without_controls
from quantize.child import LOG_TAIL, TELLING

_NOISE = re.compile(r"^\s*$|^\[New LWP|^Thread|^warning: |^#\d+ |^\[Inferior")


def start_mark(pid: int) -> str:
    """The line that a worker writes into its log first."""
    return f"--- engine {pid} starts"


def last_words(log_path: Path, pid: int) -> str:
    """The most telling line that the process ``pid`` left at the end of the log, or empty."""
    try:
        with log_path.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - LOG_TAIL))
            lines = log.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    mark = start_mark(pid)
    for i, line in enumerate(lines):
        if line.startswith(mark):
            lines = lines[i + 1 :]
            break
    lines = [line for line in lines if not _NOISE.match(line)]
    telling = [line for line in lines if TELLING.search(line)]
    line = (telling or lines or [""])[-1]
    return without_controls(line, 300)


def sentence(exit_code: int, words: str) -> str:
    """What happened to a process that ended with ``exit_code`` (negative: by that signal)."""
    if exit_code == -signal.SIGKILL:
        return "The system ended the engine, most likely because memory ran out."
    if exit_code == -signal.SIGABRT:
        return "llama.cpp stopped itself after an internal check failed" + (f": {words}" if words else ".")
    if exit_code == -signal.SIGBUS:
        return "The engine lost its model file: it was changed, or its disk is gone (SIGBUS)."
    if exit_code in (-signal.SIGSEGV, -signal.SIGILL, -signal.SIGFPE):
        name = signal.Signals(-exit_code).name
        return f"The engine crashed ({name})" + (f" after: {words}" if words else ".")
    if exit_code < 0:
        return f"The engine was ended from outside ({_signal_name(-exit_code)})."
    if exit_code == 0:
        return "The engine ended without being asked to."
    return f"The engine ended with exit code {exit_code}" + (f": {words}" if words else ".")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
