"""What is compared: a way to keep the cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quantize.cache_types import CachePair, parse_pair
from quantize.errors import CacheTypeError

if TYPE_CHECKING:
    from quantize.lab.subject import Subject, Workbench

MAX_TAIL = 1 << 20


@dataclass(frozen=True, slots=True)
class Setting:
    """Types of K and V, and a window of newest tokens that are read exactly.

    Another way to make a cache smaller is a subclass: it has a ``kind`` of its own, adds what it needs
    to ``data`` and opens a subject whose ``settle`` compresses what was read.
    """

    pair: CachePair
    tail: int = 0
    """Newest tokens that are read exactly, 0 for none."""

    kind: ClassVar[str] = "cache"

    @property
    def label(self) -> str:
        """``q8_0``, ``q8_0/q4_0``, ``tq3+256``. The same setting always has the same label."""
        return f"{self.pair.label}+{self.tail}" if self.tail else self.pair.label

    @property
    def is_reference(self) -> bool:
        """Whether this is what all others are compared with."""
        return self == REFERENCE

    def data(self) -> dict[str, Any]:
        """For the child process; ``setting_of`` reads it."""
        return {"kind": self.kind, "pair": self.pair.label, "tail": self.tail}

    def obstacle(self, bench: Workbench) -> str:
        """Why this setting cannot be opened on this bench, in one sentence; empty if it can."""
        reason = self.pair.obstacle(bench.head_dims_k, bench.head_dims_v, mla=bench.mla)
        if not reason and (self.pair.k.native or self.pair.v.native) and not bench.native.ok:
            reason = bench.native.reason
        if not reason and self.tail and not bench.attention.ok:
            reason = f"A window of exact tokens needs the own attention kernel. {bench.attention.reason}"
        return reason

    def open(self, bench: Workbench, *, n_ctx: int, n_batch: int, n_outputs: int = 1) -> Subject:
        """An empty cache.

        Raises:
            CacheTypeError: if the model or this installation cannot have it.
            EngineError: if llama.cpp does not make it.
        """
        reason = self.obstacle(bench)
        if reason:
            raise CacheTypeError(reason)
        type_k, type_v = self.pair.type_ids(bench.head_dims_k, bench.head_dims_v)
        return bench.open(type_k, type_v, tail=self.tail, n_ctx=n_ctx, n_batch=n_batch, n_outputs=n_outputs)


REFERENCE = Setting(parse_pair("f16"))
"""What everything is compared with: the same weights with an exact cache."""

KINDS: dict[str, type[Setting]] = {Setting.kind: Setting}
"""Every kind of setting by name."""


def setting_of(data: dict[str, Any]) -> Setting:
    """The setting that ``Setting.data`` described."""
    fields = dict(data)
    kind = KINDS[fields.pop("kind")]
    return kind(parse_pair(fields.pop("pair")), **fields)


def parse_setting(text: str) -> Setting:
    """Read ``q8_0``, ``q8_0/q4_0`` or ``tq3+256``.

    Raises:
        CacheTypeError: if it is none of these.
    """
    match = re.fullmatch(r"([^+]+)(?:\+(\d{1,7}))?", text.strip())
    if match is None or int(match[2] or 0) > MAX_TAIL:
        raise CacheTypeError(
            f"{text.strip()!r} is no cache setting.", "Write for example q8_0, q8_0/q4_0 or q4_0+256."
        )
    return Setting(parse_pair(match[1]), int(match[2] or 0))
