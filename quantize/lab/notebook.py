"""Results that outlive an interruption: one JSON file per experiment, written after each measurement."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

VERSION = 1
"""Raised when a measurement changes its meaning: older results are then measured again."""

_HEAD = 4 << 20
_SAMPLE = 1 << 16
_N_SAMPLES = 32


def fingerprint(path: Path) -> str:
    """What identifies a model file without reading it whole: its size, its first 4 MiB (all the
    metadata) and 32 samples of the rest.

    Raises:
        OSError: if it cannot be read.
    """
    digest = hashlib.sha256()
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        digest.update(file.read(_HEAD))
        for i in range(_N_SAMPLES):
            file.seek(i * max(size - _SAMPLE, 0) // _N_SAMPLES)
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def key_of(*parts: object) -> str:
    """A name for an experiment from everything that its results depend on."""
    return hashlib.sha256(json.dumps([VERSION, *map(str, parts)]).encode()).hexdigest()[:32]


class Notebook:
    """The results of one experiment by name. None as the place keeps them in memory only."""

    def __init__(self, place: Path | None) -> None:
        self._place = place
        self._results: dict[str, dict[str, Any]] = {}
        if place is not None:
            try:
                saved = json.loads(place.read_text(encoding="utf-8"))
                self._results = {str(k): dict(v) for k, v in saved.items()}
            except (OSError, ValueError, AttributeError, TypeError):
                self._results = {}  # none yet, or not ours

    def __contains__(self, name: str) -> bool:
        return name in self._results

    def get(self, name: str) -> dict[str, Any] | None:
        """A result, None if it was not measured yet."""
        return self._results.get(name)

    def put(self, name: str, result: dict[str, Any]) -> None:
        """Keep a result. That it cannot be written is no reason to stop measuring."""
        self._results[name] = result
        if self._place is None:
            return
        part = self._place.with_suffix(f".{os.getpid()}")
        try:
            self._place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_text(json.dumps(self._results), encoding="utf-8")
            part.replace(self._place)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything, in the file too."""
        self._results.clear()
        if self._place is not None:
            self._place.unlink(missing_ok=True)
