"""A cache that was read exactly, parked and resumed: what opening an earlier conversation does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from quantize.lab.methods import split_pair
from quantize.lab.setting import REFERENCE, Setting
from quantize.park.names import check_name

if TYPE_CHECKING:
    from quantize.lab.subject import Subject, Workbench

CALIBRATIONS = "STRETCH_CALIBRATIONS"
"""The variable that tells the child process where calibrations are."""


@dataclass(frozen=True)
class ParkedSetting(Setting):
    """Read as f16, parked with a codec, resumed into ``pair``."""

    codec: str = "auto"

    kind: ClassVar[str] = "park"
    settles: ClassVar[bool] = True

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Read ``learned``, ``ggml:q4_0`` or ``learned:0.05@q8_0``.

        Raises:
            UsageError: if there is no such codec.
            CacheTypeError: if it names no types.
        """
        own, pair = split_pair(text)
        return cls(pair, codec=check_name(own))

    @property
    def label(self) -> str:
        """``park learned``, ``park learned>q8_0``."""
        into = "" if self.pair == REFERENCE.pair else f">{self.pair.label}"
        return f"park {self.codec}{into}"

    @property
    def is_reference(self) -> bool:
        return False

    def data(self) -> dict[str, Any]:
        return {**super().data(), "codec": self.codec}

    def open(self, bench: Workbench, *, n_ctx: int, n_batch: int, n_outputs: int = 1) -> Subject:
        """An empty f16 cache, which ``settle`` parks and resumes.

        Raises:
            StretchError: if the model or this installation cannot have it.
        """
        from quantize.lab.parking import ParkedSubject

        before = REFERENCE.open(bench, n_ctx=n_ctx, n_batch=n_batch, n_outputs=n_outputs)
        calibrations = Path(os.environ.get(CALIBRATIONS, ""))
        return ParkedSubject(
            before,
            self.codec,
            calibrations,
            lambda: Setting.open(self, bench, n_ctx=n_ctx, n_batch=n_batch, n_outputs=n_outputs),
        )
