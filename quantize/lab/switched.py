"""A cache that was read exactly and then changed to other types: what ``/kv`` does in a conversation.

The text was read with exact attention, so what is left of it is a little closer to the reference than if
every token had been compressed as it was written. What is read afterwards is written compressed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from quantize.cache_types import parse_pair
from quantize.lab.setting import REFERENCE, Setting

if TYPE_CHECKING:
    from quantize.lab.subject import Subject, Workbench


@dataclass(frozen=True)
class SwitchedSetting(Setting):
    """Read as f16, then transcoded to ``pair``."""

    kind: ClassVar[str] = "switched"
    settles: ClassVar[bool] = True

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Read ``tq3`` or ``q8_0/tq3``.

        Raises:
            CacheTypeError: if it names no types.
        """
        return cls(parse_pair(text))

    @property
    def label(self) -> str:
        """``f16>tq3``."""
        return f"{REFERENCE.label}>{super().label}"

    def open(self, bench: Workbench, *, n_ctx: int, n_batch: int, n_outputs: int = 1) -> Subject:
        """An empty f16 cache, which ``settle`` changes to the types.

        Raises:
            CacheTypeError: if the model or this installation cannot have them.
            EngineError: if llama.cpp does not make it.
        """
        from quantize.lab.switching import SwitchedSubject

        Setting.open(self, bench, n_ctx=256, n_batch=n_batch).close()  # says now what cannot be
        before = REFERENCE.open(bench, n_ctx=n_ctx, n_batch=n_batch, n_outputs=n_outputs)
        return SwitchedSubject(
            before, lambda: Setting.open(self, bench, n_ctx=n_ctx, n_batch=n_batch, n_outputs=n_outputs)
        )
