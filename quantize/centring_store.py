"""The constant of K of each model, kept in a file, found again by its id.

A file per centring, named by the model's fingerprint and the id: what was written with an older one can
still be read. The newest one is used for new contexts. A file that is missing, damaged or of another model is
as good as none.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from quantize import centrings
from quantize.centring import Centring, DamagedError, find_with
from quantize.errors import StretchError
from quantize.geometry import Geometry
from quantize.llama import Context, Model, StopFlag, trim_heap
from quantize.model_ropes import ropes_of
from quantize.native import attention
from quantize.park.fingerprint import fingerprint

_Q8_0 = 8
_KEPT = 4
"""Files of one model that stay."""


def builtin_text() -> str:
    """The text that K's constant is found with: prose, chat, code, numbers, several languages."""
    return Path(__file__).with_name("data").joinpath("centring.txt").read_text(encoding="utf-8")


class CentringStore:
    """The centrings of one loaded model. Making it gives ``model`` the best that is known at once."""

    def __init__(self, model: Model, geometry: Geometry, folder: Path | None, n_threads: int = 2) -> None:
        """
        Args:
            folder: where the files are; None to keep nothing.
        """
        self._model = model
        self._geometry = geometry
        self._folder = folder
        self._n_threads = n_threads
        self._mark = ""
        self._done = False
        self.obstacle = ""
        """Why K of this model is stored whole, in one sentence; empty if it is not."""
        model.centring = None
        if not attention.enable().ok:
            self.obstacle = "K is stored whole: its constant needs Stretch's own attention kernel."
            return
        with contextlib.suppress(OSError):
            self._mark = fingerprint(model.path)
        find_with(self._with_id)
        self._take(self._newest() or centrings.from_bias(model, geometry))
        trim_heap()  # the fingerprint and the probe took some, which is not needed again

    @property
    def calibrated(self) -> bool:
        """Whether there is no better one to be had."""
        found = self._model.centring
        return self._done or bool(self.obstacle) or (found is not None and found.source == "text")

    def give_up(self) -> None:
        """The text cannot be read: go on with what is there."""
        self._done = True

    def repeat(self) -> None:
        """Calibrate again, although it was done."""
        self._done = False
        if self._model.centring is not None and self._model.centring.source == "text":
            self._take(centrings.from_bias(self._model, self._geometry))

    def calibrate(self, stop: StopFlag | None = None) -> None:
        """Read the built-in text and keep what it tells. A few seconds.

        Contexts that are open go on with what they have.

        Args:
            stop: ends it early.

        Raises:
            EngineError: if llama.cpp cannot read the text, or was stopped.
            StateError: if this model's state cannot be read.
        """
        tokens = self._model.tokenize(builtin_text(), add_special=True)[: centrings.TEXT_TOKENS]
        found = centrings.from_text(self._model, self._geometry, tokens, self._n_threads, stop)
        self._take(found)
        if self._model.centring == found:
            self._save(found)
        trim_heap()  # what was read is not needed again

    def _take(self, centring: Centring | None) -> None:
        """Use it, if the kernel then writes and reads every layer."""
        self._model.centring = centring
        if centring is None:
            return
        try:
            with Context(
                self._model, n_ctx=256, n_batch=32, n_ubatch=32, type_k=_Q8_0, type_v=_Q8_0
            ) as probe:
                works = probe.centring is not None
        except (StretchError, ValueError):
            works = False
        if not works:
            self._model.centring = None
            self.obstacle = (
                "K is stored whole: llama.cpp computes some of this model's attention without "
                "Stretch's kernel."
            )

    # ------------------------------------------------------------------ files

    def _path(self, name: str) -> Path | None:
        return self._folder / f"{self._mark}-{name}.centring" if self._folder and self._mark else None

    def _read(self, path: Path | None) -> Centring | None:
        if path is None:
            return None
        try:
            ropes = ropes_of(self._model, self._geometry)
            return Centring.from_bytes(path.read_bytes(), self._geometry, ropes)
        except (OSError, DamagedError, ValueError):
            return None

    def _files(self) -> list[Path]:
        """The newest first."""
        if not self._folder or not self._mark:
            return []
        found: list[tuple[float, Path]] = []
        with contextlib.suppress(OSError):
            for path in self._folder.glob(f"{self._mark}-*.centring"):
                with contextlib.suppress(OSError):
                    found.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(found, reverse=True)]

    def _newest(self) -> Centring | None:
        for path in self._files():
            found = self._read(path)
            if found is not None:
                return found
        return None

    def _with_id(self, number: int) -> Centring | None:
        found = self._read(self._path(f"{number:08x}"))
        if found is None:  # what the weights tell is in no file
            found = centrings.from_bias(self._model, self._geometry)
        return found

    def _save(self, centring: Centring) -> None:
        path = self._path(f"{centring.id:08x}")
        if path is None:
            return
        half = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            half.write_bytes(centring.to_bytes())
            half.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                half.unlink()
            return
        for old in self._files()[_KEPT:]:
            with contextlib.suppress(OSError):
                old.unlink()
