"""What the cache is, what was asked of it, and one change at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.engine import protocol
from app.engine.protocol import KEEP_TAIL
from models.stretch_row import StretchRow
from quantize.cache_types import AUTO_TAIL, PRESETS, cache_type, parse_cache
from quantize.errors import CacheTypeError


@dataclass(frozen=True, slots=True)
class CacheState:
    """One setting of the cache."""

    type_k: str = "f16"
    type_v: str = "f16"
    n_ctx: int = 0
    tail: int = AUTO_TAIL
    """What is wished for: a number of newest tokens to keep exactly, or ``AUTO_TAIL``."""

    def changed(
        self, type_k: str = "", type_v: str = "", n_ctx: int = -1, tail: int = KEEP_TAIL
    ) -> CacheState:
        """The setting after a wish; empty names, a negative length and ``KEEP_TAIL`` leave a part alone."""
        return CacheState(
            type_k or self.type_k,
            type_v or self.type_v,
            self.n_ctx if n_ctx < 0 else n_ctx,
            self.tail if tail == KEEP_TAIL else tail,
        )


def bits(type_k: str, type_v: str) -> float:
    """Bits that a value of K and one of V take together; 0 for a type that this program does not know."""
    try:
        return sum(
            t.variants[0].type_size * 8 / t.variants[0].block_size for t in map(cache_type, (type_k, type_v))
        )
    except CacheTypeError:
        return 0.0


def presets(rows: Sequence[StretchRow]) -> list[tuple[str, str]]:
    """The settings that the key cycles through, in the order of the stretch table: those that this model
    can use and that do not break it."""
    if rows:
        found = [(row.type_k, row.type_v) for row in rows if not row.refused and not row.loss.breaks]
        return list(dict.fromkeys(found))
    return [(pair.k.name, pair.v.name) for pair in PRESETS]


def next_preset(now: tuple[str, str], choices: Sequence[tuple[str, str]], step: int) -> tuple[str, str]:
    """The preset after ``now``; for a setting that is none, the first one."""
    if not choices:
        return now
    if now not in choices:
        return choices[0]
    return choices[(choices.index(now) + step) % len(choices)]


class CacheControl:
    """Collects wishes while a change is under way, so that a key held down costs one change, not ten."""

    def __init__(self) -> None:
        self.now = CacheState()
        """The cache as the engine has it."""
        self.wanted = CacheState()
        """The cache as the user wants it."""
        self.in_flight = 0
        """Id of the change that the engine is doing, or 0."""
        self.kind = ""
        """What is under way: ``set``, ``undo``, ``reprefill`` or ``prune``."""
        self._sent = CacheState()
        self._accepted = CacheState()

    def settled(self, state: CacheState) -> None:
        """The engine has this cache and nothing is wanted beyond it."""
        self.now = self.wanted = state
        self.in_flight = 0

    def want(self, type_k: str = "", type_v: str = "", n_ctx: int = -1, tail: int = KEEP_TAIL) -> None:
        """Ask for a change. Unknown names are refused here.

        Raises:
            CacheTypeError: if there is no such type.
        """
        for name in (type_k, type_v):
            if name:
                cache_type(name)
        self.wanted = self.wanted.changed(type_k, type_v, n_ctx, tail)

    def next_command(self, id: int) -> protocol.SetCache | None:
        """The command that leads to what is wanted, if one has to be sent now."""
        if self.in_flight or self.wanted == self.now:
            return None
        wanted, now = self.wanted, self.now
        self.in_flight, self.kind, self._sent = id, "set", wanted
        return protocol.SetCache(
            id,
            type_k=wanted.type_k if wanted.type_k != now.type_k else "",
            type_v=wanted.type_v if wanted.type_v != now.type_v else "",
            n_ctx=wanted.n_ctx if wanted.n_ctx != now.n_ctx else -1,
            tail=wanted.tail if wanted.tail != now.tail else KEEP_TAIL,
            accept_loss=wanted == self._accepted,
        )

    def accept(self, state: CacheState) -> None:
        """Ask for ``state`` whatever it costs."""
        self.wanted = self._accepted = state

    @property
    def sent(self) -> CacheState:
        """What was asked for last."""
        return self._sent

    def special(self, kind: str, id: int) -> bool:
        """Note that a change that is no wish (``kind``) is sent. False if something is under way."""
        if self.in_flight:
            return False
        self.in_flight, self.kind = id, kind
        return True

    def done(self, changed: protocol.CacheChanged) -> bool:
        """A change has ended; whether it went up to more bits than before."""
        before = bits(self.now.type_k, self.now.type_v)
        newer = self.wanted if self.kind == "set" and self.wanted != self._sent else None
        self.settled(CacheState(changed.type_k, changed.type_v, changed.n_ctx, changed.tail_wish))
        if newer is not None:
            self.wanted = newer
        return bits(changed.type_k, changed.type_v) > before

    def failed(self) -> None:
        """A change could not be made: the cache is as before."""
        self.in_flight = 0
        self.wanted = self.now


def parse_setting(text: str) -> tuple[str, str, int]:
    """``q8_0``, ``q8_0/q4_0`` or ``tq3+256`` as names of K and V, and the window or ``KEEP_TAIL``.

    Raises:
        CacheTypeError: if it is none of these.
    """
    pair, tail = parse_cache(text)
    return pair.k.name, pair.v.name, KEEP_TAIL if tail is None else tail
