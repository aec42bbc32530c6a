"""Parking conversations that begin alike: what they share is written once.

A beginning is a file like that of a conversation, called by a hash of the model, the codec and its tokens. A
conversation's file names its beginning and holds the cells after it; a beginning can have a beginning
itself. When a conversation is parked that begins like another one, the common part becomes such a file, and
the other one is written again without it. Each file is replaced as a whole, so that a kill between two of
them leaves something twice on the disk and nothing missing.

Nobody counts references: a beginning that no file names is removed (``app.store.parked``), and a conversation
whose beginning is missing or damaged is read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantize.errors import StretchError
from quantize.park.codec import Setting, parse
from quantize.park.file import ParkReader
from quantize.park.header import BEGINNING, VERSION, About, beginning_path, chain, complete
from quantize.park.parking import Beginning, ModelFacts, Parked, park, profile_of, tables_of, unpark
from quantize.park.slices import cells_between, in_order
from quantize.state import SavedState

LEAST = 256
"""A shorter common part is not worth a file."""
EXACT = 32
"""Nor one that takes fewer bytes than so many exact tokens: a file keeps 12 of them, and its newest tokens
finely."""
DEEPEST = 8
"""Beginnings of beginnings."""
F32 = 0
F16 = 1

Room = Callable[[int], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Like:
    """A file that begins like the conversation that is being parked."""

    path: Path
    about: About
    n_common: int
    size: int

    @property
    def is_beginning(self) -> bool:
        """Whether it is shared."""
        return self.path.suffix == BEGINNING

    @property
    def ratio(self) -> float:
        """How many times smaller than f16 it made its own cells."""
        own = (self.about.n_tokens - self.about.start) / max(self.about.n_tokens, 1)
        return self.about.f16_bytes * own / max(self.size, 1)


def key_of(facts: ModelFacts, setting: Setting, tokens: Sequence[int]) -> str:
    """The name of a beginning: the same for whoever begins so with this model and codec."""
    h = hashlib.blake2b(digest_size=16)
    profile = profile_of(setting, facts)
    h.update("\n".join((str(VERSION), facts.fingerprint, setting.label, profile, tables_of(facts))).encode())
    h.update(np.asarray(tokens, "<i4").tobytes())
    return h.hexdigest()


def n_common(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    """Tokens at the beginning that are the same."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def alike(
    folder: Path, tokens: Sequence[int], facts: ModelFacts, setting: Setting | None = None
) -> list[Like]:
    """The whole files of this model that begin like ``tokens``, those with most in common first.

    Args:
        setting: only those of this codec.
    """
    wanted = np.asarray(tokens, np.int32)
    found = []
    for path in (*folder.glob("*.park"), *folder.glob(f"*{BEGINNING}")):
        try:
            with ParkReader(path) as reader:
                about, size, theirs = reader.about, reader.size, reader.tokens
        except (StretchError, OSError):
            continue
        if about.fingerprint != facts.fingerprint or about.n_gone:
            continue
        if setting is not None and (about.setting, about.profile, about.tables) != (
            setting.label,
            profile_of(setting, facts),
            tables_of(facts),
        ):
            continue
        n = n_common(theirs, wanted)
        if n >= LEAST:
            found.append(Like(path, about, n, size))
    # Of two with as much in common the shorter one is read faster.
    return sorted(found, key=lambda f: (-f.n_common, f.about.n_tokens, f.path.name))


def park_shared(
    state: SavedState,
    tokens: Sequence[int],
    facts: ModelFacts,
    setting: Setting,
    path: Path,
    room: Room,
    *,
    conversation: int = 0,
    pins: Sequence[str] = (),
    boundary: Callable[[int], int] = lambda n: n,
    hurry: Callable[[], bool] = lambda: False,
) -> tuple[Parked, int, int]:
    """Park a conversation that was not pruned, with its beginning where others find it.

    Args:
        room: gives buffers for the states of others that are written again.
        boundary: a good place to cut at or before so many tokens.
        hurry: whether the others have to wait for the next time.

    Returns:
        what became of it; tokens and bytes of the beginning that it shares.

    Raises:
        StretchError, OSError: as ``park``.
    """
    possible = in_order(state)
    for _ in range(2):  # whoever removed conversations meanwhile may have taken a beginning along
        found = alike(path.parent, tokens, facts, setting) if possible else []
        others = [f for f in found if f.path != path]
        shared = _beginning(state, tokens, facts, setting, path.parent, others, boundary)
        done = park(
            state, tokens, facts, setting, path, conversation=conversation, pins=pins, beginning=shared
        )
        if complete(path):
            break
    assert done is not None  # nothing stops it
    if shared is None:
        return done, 0, 0
    for other in others:
        if hurry():
            break
        if other.n_common >= shared.n_tokens > other.about.start and other.about.n_tokens > shared.n_tokens:
            with contextlib.suppress(StretchError, OSError, MemoryError):  # it stays as it is
                _write_again(other.path, facts, shared, room)
    n_bytes = 0
    for link in chain(path):
        with contextlib.suppress(OSError):
            n_bytes += link.stat().st_size
    return done, shared.n_tokens, n_bytes


def _beginning(
    state: SavedState,
    tokens: Sequence[int],
    facts: ModelFacts,
    setting: Setting,
    folder: Path,
    others: Sequence[Like],
    boundary: Callable[[int], int],
) -> Beginning | None:
    """The longest beginning that is worth sharing, made if there is none yet."""
    parent: Beginning | None = None
    for other in others:
        usable = other.is_beginning and other.n_common == other.about.n_tokens < len(tokens)
        if usable and _whole(other.path):
            parent = Beginning(other.path.stem, other.n_common)
            break
    start = parent.n_tokens if parent is not None else 0
    for other in others:
        if other.is_beginning and other.n_common == other.about.n_tokens:
            continue  # as good as it is, or damaged
        n = boundary(min(other.n_common, len(tokens) - 1, other.about.n_tokens - 1))
        if n - start < max(LEAST, EXACT * other.ratio):
            continue
        deepest = max(len(chain(o.path)) for o in others if o.n_common >= n)
        if deepest >= DEEPEST:
            break
        key = key_of(facts, setting, tokens[:n])
        made = beginning_path(folder, key)
        park(cells_between(state, 0, n), tokens[:n], facts, setting, made, beginning=parent)
        return Beginning(key, n)
    return parent


def _whole(path: Path) -> bool:
    """Whether a beginning and those before it are as they were written. What is damaged is removed: whoever
    names it is read again anyway."""
    for link in (path, *chain(path)):
        try:
            with ParkReader(link) as reader:
                reader.check()
        except StretchError:
            with contextlib.suppress(OSError):
                link.unlink()
            return False
        except OSError:
            return False
    return complete(path)


def _write_again(path: Path, facts: ModelFacts, beginning: Beginning, room: Room) -> None:
    """Take the cells that ``beginning`` has out of another file. The rest keeps its values: it is decoded,
    and the same quantizer finds the same numbers in it."""
    used = path.stat()
    with ParkReader(path) as reader:
        about, tokens, pins = reader.about, reader.tokens, reader.pins
        kind = [t if t == F16 else F32 for t in (about.type_k, about.type_v)]
        state = unpark(reader, facts, kind[0], kind[1], room)
    park(
        state,
        [int(t) for t in tokens],
        facts,
        parse(about.setting),
        path,
        conversation=about.conversation,
        pins=pins,
        beginning=beginning,
        created=about.created,
    )
    os.utime(path, ns=(used.st_atime_ns, used.st_mtime_ns))
