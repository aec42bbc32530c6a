"""The engine's log file, and what can be learned from llama.cpp's lines in it."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import BinaryIO

from app.engine.death import start_mark

MAX_BYTES = 2 * 1024 * 1024
KEPT = 3
"""Older files that are kept: ``engine.log.1`` is the newest of them."""

_MIB = 1024 * 1024
_LEVELS = {1: "debug", 2: "info", 3: "warning", 4: "error"}
_CONTINUED = 5
_DEBUG = 1


def take_over_descriptors(path: Path) -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes for ourselves and point the descriptors 0, 1 and 2 elsewhere.

    Whatever the C library prints then lands in the log, and nothing can disturb the messages.

    Returns:
        the stream of commands and the stream for events.
    """
    commands = os.fdopen(os.dup(0), "rb")
    events = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    _rotate(path)
    _point_outputs_at(path)
    return commands, events


def _rotate(path: Path) -> None:
    if not path.exists() or path.stat().st_size < MAX_BYTES // 2:
        return
    for i in range(KEPT - 1, 0, -1):
        older = path.with_name(f"{path.name}.{i}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{i + 1}"))
    path.replace(path.with_name(f"{path.name}.1"))


def _point_outputs_at(path: Path) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


class EngineLog:
    """Takes llama.cpp's lines, writes them to the log and remembers the figures in them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._line: list[str] = []
        self._level = 0
        self._written = 0
        self.caches: list[tuple[int, int, int]] = []
        """Of the newest context: (cells, layers, bytes as far as two decimals of MiB tell) per cache."""
        self.recurrent_bytes = 0
        self.compute_bytes = 0
        self.errors: list[str] = []
        """The newest errors and warnings, at most twenty."""
        self.write(f"{start_mark(os.getpid())}")

    def write(self, line: str) -> None:
        """Write one line of our own."""
        data = (line.replace("\n", " ") + "\n").encode("utf-8", "replace")
        with self._lock:
            os.write(2, data)
            self._written += len(data)
            if self._written > MAX_BYTES // 2:
                self._written = 0
                _rotate(self._path)
                _point_outputs_at(self._path)

    def receive(self, level: int, text: str) -> None:
        """The sink for ``quantize.llama.send_log_to``. Lines can arrive in pieces."""
        if level != _CONTINUED:
            self._level = level
        self._line.append(text)
        if text.endswith("\n"):
            line = "".join(self._line).rstrip("\n")
            self._line.clear()
            if self._level != _DEBUG and line.strip(" ."):
                self.write(f"{_LEVELS.get(self._level, '')} {line}")
                self._learn(line)

    def _learn(self, line: str) -> None:
        if self._level >= 3:
            self.errors = [*self.errors[-19:], line]
        elif match := re.match(r"llama_kv_cache: size = +([\d.]+) MiB \( *(\d+) cells, +(\d+) layers", line):
            self.caches.append((int(match[2]), int(match[3]), round(float(match[1]) * _MIB)))
        elif match := re.match(r"llama_memory_recurrent: size = +([\d.]+) MiB", line):
            self.recurrent_bytes += round(float(match[1]) * _MIB)
        elif match := re.search(r"(\w+) compute buffer size = +([\d.]+) MiB", line):
            self.compute_bytes += round(float(match[2]) * _MIB)
        elif match := re.search(r"output buffer size = +([\d.]+) MiB", line):
            self.compute_bytes += round(float(match[1]) * _MIB)

    def begin_context(self) -> None:
        """Forget the figures of the previous context: a new one follows."""
        self.caches = []
        self.recurrent_bytes = 0
        self.compute_bytes = 0

    def begin_model(self) -> None:
        """Forget the figures of the previous model."""
        self.errors = []
        self.begin_context()
