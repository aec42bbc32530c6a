"""The measured losses of a model, in a small file beside its calibration.

A file that is missing, damaged, of another version or of another model holds nothing: the model is measured
again. Nothing that is read from it is trusted to be in range.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from quantize.errors import CacheTypeError
from quantize.lab.loss import Loss
from quantize.lab.setting import Setting, parse_setting

VERSION = 2
"""Raised when the measurement, or what the cache stores, changes: older figures are then measured again."""

MOST_BYTES = 1 << 16
"""No file that this program writes is longer."""

NOT_MEASURABLE = Loss()
"""Of a setting that could not be read: it is not tried again."""


@dataclass
class LossStore:
    """Measured losses by setting. Every change is written at once.

    Args:
        place: the file; None keeps everything in memory.
        kernel: ``own`` or ``stock``: what computes attention over compressed rows. Figures of the other one
            do not count.
    """

    place: Path | None
    kernel: str = "own"
    floor: float = -1.0
    """KLD that rounding alone makes; negative before it was measured."""
    losses: dict[Setting, Loss] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the file."""
        if self.place is not None:
            with contextlib.suppress(
                OSError, ValueError, TypeError, KeyError, CacheTypeError, RecursionError
            ):
                self._take(self._read(self.place))

    def get(self, setting: Setting) -> Loss | None:
        """A loss above the floor of this model, None if it was not measured."""
        found = self.losses.get(setting)
        return None if found is None else replace(found, floor=max(self.floor, 0.0))

    def put(self, setting: Setting, loss: Loss) -> None:
        """Keep a loss. That it cannot be written is no reason to stop measuring."""
        self.losses[setting] = loss
        self._write()

    def put_floor(self, kld: float) -> None:
        """Keep the floor."""
        self.floor = kld
        self._write()

    def clear(self) -> None:
        """Forget everything, in the file too."""
        self.losses.clear()
        self.floor = -1.0
        if self.place is not None:
            with contextlib.suppress(OSError):
                self.place.unlink(missing_ok=True)

    # ------------------------------------------------------------------ the file

    @staticmethod
    def _read(place: Path) -> dict[str, Any]:
        with place.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError("too long")
        found: dict[str, Any] = json.loads(data)
        return found

    def _take(self, data: dict[str, Any]) -> None:
        """Take in all of ``data`` or nothing."""
        if data["version"] != VERSION or data["kernel"] != self.kernel:
            return
        losses = {parse_setting(label): _loss(*figures) for label, figures in data["losses"].items()}
        floor = float(data["floor"])
        if not math.isfinite(floor):
            return
        self.floor, self.losses = floor, losses

    def _write(self) -> None:
        if self.place is None:
            return
        losses = {s.label: [loss.kld, loss.top1, loss.n_tokens] for s, loss in self.losses.items()}
        data = {"version": VERSION, "kernel": self.kernel, "floor": self.floor, "losses": losses}
        part = self.place.with_suffix(f".{os.getpid()}")
        try:
            self.place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_text(json.dumps(data), encoding="ascii")
            part.replace(self.place)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def store_path(directory: Path, mark: str) -> Path:
    """Where the losses of the model with this fingerprint are kept."""
    return directory / f"{mark}.losses"


def _loss(kld: float, top1: float, n_tokens: int) -> Loss:
    """One entry.

    Raises:
        ValueError: if it is none.
    """
    if not n_tokens and kld < 0:
        return NOT_MEASURABLE
    if not (math.isfinite(kld) and kld >= 0 and 0 <= top1 <= 1 and n_tokens > 0):
        raise ValueError("no loss")
    return Loss(float(kld), float(top1), measured=True, n_tokens=int(n_tokens))
