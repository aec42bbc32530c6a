"""Parking a saved state in a file, and making a state of any type from it again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantize.centring import Centring, with_id
from quantize.errors import CacheTypeError, StateError, UsageError
from quantize.park import rows, scalar, transform
from quantize.park.codec import Job, Setting, TokenRows, codec, exact_cells, parse
from quantize.park.file import DAMAGED, About, ParkReader, ParkWriter
from quantize.park.header import MAX_CHAIN, OTHER_VERSION, BeginningError, beginning_path
from quantize.park.plain import SIDES, Frame, Source, Target, row_bytes
from quantize.park.profile import Profile
from quantize.park.slices import cells_between
from quantize.park.tables import library
from quantize.rope import unlike_one_base
from quantize.state import SavedState

_ = (rows, scalar, transform)  # they join the list of codecs

F16 = 1
BROKEN = "The beginning that the parked conversation shares with others is missing or damaged."


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A loaded model as parking sees it."""

    fingerprint: str
    frame: Frame
    embedding: TokenRows | None = None
    profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """What became of a cache."""

    n_bytes: int
    """Of the file, without a beginning that it shares."""
    f16_bytes: int
    """Of the same cells in an f16 cache."""
    n_tokens: int
    seconds: float

    @property
    def ratio(self) -> float:
        """How many times smaller than f16."""
        return self.f16_bytes / max(self.n_bytes, 1)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The file that has the cells of the first tokens."""

    key: str
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Cut:
    """What a prune left (``Pruned`` of the engine)."""

    n_gone: int = 0
    whole_from: int = 0
    composite: bool = False


def park(
    state: SavedState,
    tokens: Sequence[int],
    facts: ModelFacts,
    setting: Setting,
    path: Path,
    *,
    conversation: int = 0,
    cut: Cut | None = None,
    pins: Sequence[str] = (),
    beginning: Beginning | None = None,
    created: float = 0.0,
    stopped: Callable[[], bool] = lambda: False,
) -> Parked | None:
    """Write ``state`` to ``path``, or nothing if ``stopped`` says so on the way (then None).

    Args:
        tokens: token of every position of the sequence.
        setting: as ``codec.parse`` gives it.
        conversation: whose it is.
        cut: what was pruned.
        pins: texts that must not be pruned.
        beginning: has the first cells already, which are then not written (``slices.in_order``).
        created: when it was parked, seconds since the epoch; 0 for now.

    Raises:
        StateError: if this state cannot be parked.
        CacheTypeError: if the codec cannot be used with this model.
        OSError: if the file cannot be written.
    """
    began = time.perf_counter()
    start = beginning.n_tokens if beginning is not None else 0
    if start:
        state = cells_between(state, start, len(tokens))
    source = Source(state, facts.frame)
    chosen = codec(setting.codec)
    _check(chosen.obstacle(facts.frame, setting))
    if chosen.needs_profile and facts.profile is None:
        raise StateError("This model was not calibrated.", "Run stretch calibrate with it.")
    positions = [source.positions(p) for p in range(len(state.parts))]
    ids = np.asarray(tokens, np.int32)
    job = _job(facts, setting, ids, positions)
    first = next((p for p in state.parts if p.n_cells), None)
    cut = cut or Cut()
    about = About(
        fingerprint=facts.fingerprint,
        setting=setting.label,
        profile=profile_of(setting, facts),
        tables=tables_of(facts),
        n_tokens=len(ids),
        cells=job.cells,
        type_k=first.k[0].type_id if first else F16,
        type_v=first.v[0].type_id if first else F16,
        f16_bytes=sum(
            2 * (n + start) * facts.frame.width(p, layer, side)
            for p, n in enumerate(job.cells)
            for layer in range(len(facts.frame.geometry.parts[p]))
            for side in SIDES
        ),
        conversation=conversation,
        created=created or time.time(),
        beginning=beginning.key if beginning is not None else "",
        start=start,
        n_gone=cut.n_gone,
        whole_from=cut.whole_from,
        composite=cut.composite,
        centring=state.centring,
    )

    class Stopped(Exception):
        pass

    with ParkWriter(path, about, ids, pins) as writer:

        def sink(data: bytes) -> None:
            if stopped():
                raise Stopped
            writer.block(data)

        try:
            for p, at in enumerate(positions):
                sink(np.ascontiguousarray(at, "<i4").tobytes())
                _write_exact(source, p, sink)
            chosen.encode(source, job, sink)
        except Stopped:
            return None
        n_bytes = writer.finish()
    return Parked(n_bytes, about.f16_bytes, len(ids), time.perf_counter() - began)


@dataclass
class _Opened:
    """A file of a conversation, read as far as the codec's blocks."""

    reader: ParkReader
    setting: Setting
    positions: list[NDArray[np.int32]]
    exact: list[list[bytes]]
    """The exact rows come before the types of the target are known to fit: read, then place them."""


def unpark(
    reader: ParkReader,
    facts: ModelFacts,
    type_k: int,
    type_v: int,
    room: Callable[[int], NDArray[np.uint8]],
    centring: Centring | None = None,
) -> SavedState:
    """The state in other types, ready to be loaded. Nothing of it was believed unchecked.

    Args:
        reader: of a file that was just opened; the beginnings that it shares lie beside it.
        type_k: ggml type id of K of the context that will load it.
        type_v: of V.
        room: gives the buffer for the state.
        centring: of the context that will load it (``Context.centring``).

    Raises:
        BeginningError: if the beginning that it shares is missing or damaged.
        StateError: if the file is damaged, or of another model, calibration or version.
        CacheTypeError: if a type or the codec cannot be used with this model.
    """
    with contextlib.ExitStack() as stack:
        files = [_open(reader, facts)]
        while files[0].reader.about.beginning:
            if len(files) == MAX_CHAIN:
                raise StateError(DAMAGED)
            files.insert(0, _parent(files[0].reader, facts, stack))
        n_parts = len(facts.frame.geometry.parts)
        positions = [np.concatenate([f.positions[p] for f in files]) for p in range(n_parts)]
        target = Target(facts.frame, positions, type_k, type_v, centring)
        target.begin(room(target.size))
        done = [0] * n_parts
        for file in files:
            last = [a + len(at) for a, at in zip(done, file.positions, strict=True)]
            try:
                _place(file, facts, target.section(done, last))
            except (StateError, ValueError, IndexError, OverflowError) as error:
                if file is files[-1]:
                    raise
                raise BeginningError(file.reader.path, BROKEN) from error
            done = last
        return target.finish()


def _open(reader: ParkReader, facts: ModelFacts) -> _Opened:
    """Check that a file is of this model, and read what comes before the codec's blocks."""
    about = reader.about
    setting = match(about, facts)
    _check(codec(setting.codec).obstacle(facts.frame, setting))
    exact: list[list[bytes]] = []
    positions: list[NDArray[np.int32]] = []
    for p, n in enumerate(about.cells):
        data = reader.block()
        if len(data) != 4 * n:
            raise StateError(DAMAGED)
        at = np.frombuffer(data, "<i4").astype(np.int32)
        if n and (at.min() < about.start or at.max() >= about.n_tokens):
            raise StateError(DAMAGED)
        if about.start and not np.array_equal(at, np.arange(about.start, about.n_tokens)):
            raise StateError(DAMAGED)
        positions.append(at)
        exact.append([reader.block() for _ in range(2 * len(facts.frame.geometry.parts[p]))])
    return _Opened(reader, setting, positions, exact)


def _parent(child: ParkReader, facts: ModelFacts, stack: contextlib.ExitStack) -> _Opened:
    """Open the file with the cells before those of ``child``."""
    about = child.about
    path = beginning_path(child.path.parent, about.beginning)
    try:
        reader = stack.enter_context(ParkReader(path))
        opened = _open(reader, facts)
    except (StateError, OSError) as error:
        raise BeginningError(path, BROKEN) from error
    n = about.start
    whole = all(len(at) == n - reader.about.start for at in opened.positions)
    if not whole or not np.array_equal(reader.tokens, child.tokens[:n]):
        raise BeginningError(path, BROKEN)
    return opened


def _place(file: _Opened, facts: ModelFacts, target: Target) -> None:
    reader = file.reader
    for p, blocks in enumerate(file.exact):
        _read_exact(blocks, p, reader.about, facts.frame, target)
    job = _job(facts, file.setting, reader.tokens, file.positions)
    codec(file.setting.codec).decode(reader.blocks(), job, target)
    reader.end()


def tables_of(facts: ModelFacts) -> str:
    """Digest of what a reader must have in common with the writer beside the calibration: the entropy coder's
    distributions, and how K is turned where that is more than one base for all layers."""
    return library().digest + unlike_one_base(facts.frame.ropes)


def profile_of(setting: Setting, facts: ModelFacts) -> str:
    """Digest of the calibration that a file of this codec depends on; empty if on none."""
    needed = codec(setting.codec).needs_profile and facts.profile is not None
    return facts.profile.digest if needed and facts.profile is not None else ""


def match(about: About, facts: ModelFacts) -> Setting:
    """The codec of a file that belongs to this model.

    Raises:
        StateError: if it does not, or cannot be read any more.
    """
    if about.fingerprint != facts.fingerprint:
        raise StateError("The conversation was parked with another model.")
    if len(about.cells) != len(facts.frame.geometry.parts):
        raise StateError(DAMAGED)
    if about.tables != tables_of(facts):
        raise StateError(OTHER_VERSION)
    try:
        setting = parse(about.setting)
    except UsageError as error:
        raise StateError(OTHER_VERSION) from error
    if about.profile != profile_of(setting, facts):
        raise StateError("The model was calibrated anew since the conversation was parked.")
    return setting


def _check(reason: str) -> None:
    if reason:
        raise CacheTypeError(reason)


def _job(
    facts: ModelFacts, setting: Setting, tokens: NDArray[np.int32], positions: Sequence[NDArray[np.int32]]
) -> Job:
    inside = [np.clip(at, 0, max(len(tokens) - 1, 0)) for at in positions]
    shifted = np.concatenate([np.array([-1], np.int32), tokens[:-1]])
    return Job(
        facts.frame,
        setting,
        tuple(len(at) for at in positions),
        tuple(tokens[at] if len(tokens) else at for at in inside),
        tuple(shifted[at] if len(tokens) else at for at in inside),
        facts.profile,
        facts.embedding,
    )


def _ends(n: int) -> Iterator[tuple[int, int]]:
    first, last = exact_cells(n)
    yield 0, first
    yield n - last, n


def _write_exact(source: Source, part: int, sink: Callable[[bytes], None]) -> None:
    n = source.n_cells(part)
    for layer in range(len(source.frame.geometry.parts[part])):
        for side in SIDES:
            pieces = [source.raw(part, layer, side, a, b).tobytes() for a, b in _ends(n)] if n else []
            sink(b"".join(pieces))


def _read_exact(blocks: Sequence[bytes], part: int, about: About, frame: Frame, target: Target) -> None:
    n = about.cells[part]
    for i, data in enumerate(blocks):
        layer, side = i // 2, SIDES[i % 2]
        type_id = about.type_k if side == "k" else about.type_v
        size = row_bytes(frame, part, layer, side, type_id) if n else 0
        if len(data) != size * sum(exact_cells(n)):
            raise StateError(DAMAGED)
        if not size:
            continue
        raw = np.frombuffer(data, np.uint8).reshape(-1, size)
        first, _last = exact_cells(n)
        lacks = with_id(about.centring) if side == "k" else None
        target.put_raw(part, layer, side, 0, raw[:first], type_id, lacks)
        target.put_raw(part, layer, side, n - (len(raw) - first), raw[first:], type_id, lacks)
