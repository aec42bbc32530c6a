"""What is compared: a way to keep the cache.

``Setting`` is one row of every table and one point of every picture. The plain ones are cache types, with
or without a window. Another method is a subclass in a file of its own; ``methods.py`` says how it joins,
``switched.py`` is the shortest example.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from quantize.cache_types import MAX_TAIL, CachePair, parse_pair
from quantize.errors import CacheTypeError

if TYPE_CHECKING:
    from quantize.lab.candidate import Candidate
    from quantize.lab.subject import Subject, Workbench


@dataclass(frozen=True, slots=True)
class Setting:
    """Types of K and V, and a window of newest tokens that are read exactly."""

    pair: CachePair
    tail: int = 0
    """Newest tokens that are read exactly, 0 for none."""

    kind: ClassVar[str] = "cache"
    settles: ClassVar[bool] = False
    """Whether it changes the cache once the text was read (``Subject.settle``). Such a setting is judged
    by the answers after that, and so are all others of the same table."""

    @property
    def label(self) -> str:
        """``q8_0``, ``q8_0/q4_0``, ``tq3+256``. The same setting always has the same label."""
        return f"{self.pair.label}+{self.tail}" if self.tail else self.pair.label

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Read one entry of a list of settings of this kind.

        Raises:
            CacheTypeError: if it is none.
        """
        return parse_setting(text)

    @property
    def is_reference(self) -> bool:
        """Whether this is what all others are compared with."""
        return self == REFERENCE

    def data(self) -> dict[str, Any]:
        """For the child process; ``setting_of`` reads it."""
        return {"kind": self.kind, "pair": self.pair.label, "tail": self.tail}

    def sized(self, plain: Candidate, n_ctx: int) -> Candidate:
        """This setting with its sizes, as far as they are known before it is measured.

        Args:
            plain: this setting with the sizes of its types alone, every token kept.
            n_ctx: tokens that will be read.
        """
        return plain

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


def setting_of(data: dict[str, Any]) -> Setting:
    """The setting that ``Setting.data`` described."""
    from quantize.lab.methods import setting_class

    fields = dict(data)
    made = setting_class(fields.pop("kind"))
    return made(parse_pair(fields.pop("pair")), **fields)


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
