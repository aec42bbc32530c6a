"""Calibrating a model: the bases, the predictor and the weights of its codecs, from its own activations.

The model reads a text, a few thousand tokens at a time; of each stretch only second moments are kept, so that
the length of the text costs no memory, and some of the queries with which its attention asked. Then it is
measured what an error of each layer costs, and what each codec costs at several steps, on a stretch of the
text that the bases have not seen.

Every stretch that was read is written to a file, from which an interrupted calibration goes on.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.buffers import allocate
from quantize.errors import OutOfMemoryError, StateError
from quantize.llama import Context, Model
from quantize.native.attention_mass import Watched
from quantize.park.bases import Bases
from quantize.park.below import group_below
from quantize.park.choice import worth_it
from quantize.park.codec import CODECS, Job, Setting
from quantize.park.file import ParkReader
from quantize.park.importance import queries_name
from quantize.park.parking import ModelFacts, park, unpark
from quantize.park.plain import Floats, Source
from quantize.park.probe import Probe, read_text
from quantize.park.profile import Point, Profile, read_arrays, write_arrays
from quantize.park.sensitivity import Sensitivity, metric
from quantize.park.transform import TransformCodec, token_features
from quantize.park.weighing import noise_floor, weigh
from quantize.state import SavedState

STRETCH = 2048
"""Tokens that are read as one text."""
ASKING = 256
"""Of these the newest, whose queries ask the stretch."""
PROBE = 2048
"""Tokens that are compressed for a measurement, and"""
AFTER = 128
"""the tokens after them whose answers are compared."""
LEAST = 3 * STRETCH + PROBE + AFTER
"""Fewer tokens than this are no text to calibrate with."""
STEPS = {
    "learned": (0.03, 0.05, 0.08, 0.12, 0.18, 0.27),
    "lowrank": (0.03, 0.08, 0.18),
    "crosslayer": (0.03, 0.08, 0.18),
}
"""At which each codec is measured."""
QUERIES = 96
"""Of each KV head that are kept."""
MAX_FEATURES = 768
"""A wider embedding is shortened to this many principal components."""
F16 = 1
MOMENTS = b"3"
"""Which moments are kept: notes with others are not gone on with."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a calibration is."""

    what: str
    fraction: float


def transforms() -> list[TransformCodec]:
    """The codecs that need a calibration."""
    return [c for c in CODECS.values() if isinstance(c, TransformCodec)]


class Calibration:
    """One calibration. ``run`` yields progress; leaving it early keeps what was read."""

    def __init__(self, model: Model, facts: ModelFacts, tokens: Sequence[int], notes: Path) -> None:
        """
        Args:
            facts: of the model; its own profile is not looked at.
            tokens: of the text, at least ``LEAST``.
            notes: a file for what was read so far.

        Raises:
            StateError: if the text is too short.
        """
        if len(tokens) < LEAST:
            raise StateError(
                f"The text has {len(tokens):,} tokens, too few to calibrate with.",
                f"Give one of at least {LEAST:,}; 12,000 and more are better.",
            )
        self._model = model
        self._facts = facts
        self._notes = notes
        last = len(tokens) - PROBE - AFTER
        self._stretches = [list(tokens[at : min(at + STRETCH, last)]) for at in range(0, last, STRETCH)]
        self._stretches = [s for s in self._stretches if len(s) > 256]
        self._probe = list(tokens[last:])
        text = MOMENTS + np.asarray(tokens, np.int32).tobytes() + facts.fingerprint.encode()
        self._key = hashlib.blake2b(text, digest_size=16).hexdigest()
        self.sums: dict[str, NDArray[np.float64]] = {}
        """Moments of what was read so far."""
        self._n_read = 0
        self.profile: Profile | None = None
        """The result, when ``run`` has ended."""

    def run(self) -> Iterator[Progress]:
        """Calibrate.

        Raises:
            EngineError: if llama.cpp fails.
            StateError: if this model's cache cannot be parked.
            OutOfMemoryError: if the moments would not fit.
        """
        self._recall()
        n_ctx = max(len(s) for s in [*self._stretches, self._probe])
        with Context(self._model, n_ctx=n_ctx + 1, n_outputs_max=AFTER, n_batch=512) as context:
            watched = Watched.newest()
            while self._n_read < len(self._stretches):
                yield Progress("reading", 0.55 * self._n_read / len(self._stretches))
                tokens = self._stretches[self._n_read]
                state = read_text(context, tokens, watched, min(ASKING, len(tokens)))
                self.add(state, tokens)
                if watched is not None:
                    self._ask(watched, state)
                    watched.stop()
                self._n_read += 1
                self._remember()
            yield Progress("weighing the layers", 0.55)
            probe = Probe(context, self._probe, AFTER)
            queries = self._queries()
            gains: dict[str, NDArray[np.float32]] = {}
            floor = noise_floor(probe)
            for fraction in weigh(probe, self._facts.frame, self.sums, queries, gains, floor):
                yield Progress("weighing the layers", 0.55 + 0.2 * fraction)
            arrays = {**queries, **self._solve(probe, gains, queries)}
            profile = Profile(self._facts.fingerprint, arrays, {}, self.n_tokens, floor)
            profile.seal()
            for fraction in self._measure(probe, profile):
                yield Progress("measuring the codecs", 0.75 + 0.25 * fraction)
        self.profile = profile
        self._notes.unlink(missing_ok=True)

    @property
    def n_tokens(self) -> int:
        """Tokens that the bases come from."""
        return sum(len(s) for s in self._stretches)

    # ------------------------------------------------------------------ moments

    def _recall(self) -> None:
        """Go on where an interrupted calibration with the same text was."""
        try:
            header, arrays = read_arrays(self._notes)
            if header.get("key") == self._key:
                self._n_read = int(header["n_read"])
                self.sums = {name: np.array(a, np.float64) for name, a in arrays.items()}
        except (StateError, OSError, KeyError, ValueError, TypeError):
            self._n_read, self.sums = 0, {}

    def _remember(self) -> None:
        write_arrays(
            self._notes,
            {"key": self._key, "n_read": self._n_read},
            {name: a.astype(np.float32) for name, a in self.sums.items()},
        )

    def _sum(self, name: str, value: NDArray[Any]) -> None:
        found = self.sums.get(name)
        if found is None:
            try:
                found = self.sums[name] = np.zeros(value.shape, np.float64)
            except MemoryError as error:
                raise OutOfMemoryError("There is no memory to calibrate this model.") from error
        found += value

    def _ask(self, watched: Watched, state: SavedState) -> None:
        """Take in how the attention asked a stretch."""
        watched.check()
        geometry = self._facts.frame.geometry
        source = Source(state, self._facts.frame)
        sensitivity = Sensitivity(self._facts.frame, self._sum, self._n_read)
        for part, layers in enumerate(geometry.parts):
            for layer in range(len(layers)):
                number = geometry.number(part, layer)
                rows = watched.queries(number)
                if len(rows):
                    asked = sensitivity.take(source, part, layer, rows, watched.scale(number))
                    self.sums[f"{queries_name(part, layer)}.{self._n_read}"] = asked.astype(np.float64)

    def _queries(self) -> dict[str, NDArray[Any]]:
        """Of those that asked the stretches as many as are kept, for the profile."""
        found: dict[str, NDArray[Any]] = {}
        rng = np.random.default_rng(3)
        for part, layers in enumerate(self._facts.frame.geometry.parts):
            for layer in range(len(layers)):
                name = queries_name(part, layer)
                pieces = [a for i in range(self._n_read) if (a := self.sums.get(f"{name}.{i}")) is not None]
                if pieces:
                    every = np.concatenate(pieces, axis=1)
                    kept = rng.choice(every.shape[1], min(QUERIES, every.shape[1]), replace=False)
                    found[name] = np.ascontiguousarray(every[:, kept], np.float16)
        return found

    def add(self, state: SavedState, tokens: Sequence[int]) -> None:
        """Take the moments of one stretch in."""
        source = Source(state, self._facts.frame)
        job = _job(self._facts, source, tokens)
        frame = self._facts.frame
        features = [self._token_features(job, p) for p in range(len(job.cells))]
        for codec in transforms():
            groups = codec.groups(frame)
            before: dict[int, Floats] = {}  # the rows of at most two groups
            for i, group in enumerate(groups):
                n = job.cells[group.part]
                rows = [source.plain(group.part, layer, side, 4, n) for layer, side in group.members]
                x = np.concatenate(rows, axis=1)
                self._sum(f"{codec.name}.xx.{i}", x.T @ x)
                self._sum(f"{codec.name}.x.{i}", x.sum(axis=0))
                if codec.predicts:
                    self._sum(f"{codec.name}.fx.{i}", features[group.part][4:].T @ x)
                    below = group_below(groups, i)
                    if below is not None:
                        self._sum(f"{codec.name}.bx.{i}", before.pop(below).T @ x)
                    before[i] = x
        for p, f in enumerate(features):
            f = f[4:]
            self._sum(f"ff.{p}", f.T @ f)
            self._sum(f"f.{p}", f.sum(axis=0))
            self._sum(f"n.{p}", np.array([float(len(f))]))

    def _token_features(self, job: Job, part: int) -> Floats:
        """Features of each cell's token and the one before it, shape (cells, 2 * features)."""
        shorten = self._shorten(job)
        profile = Profile("", {"features": shorten} if shorten is not None else {})
        distinct, both = np.unique(np.concatenate([job.tokens[part], job.before[part]]), return_inverse=True)
        rows = token_features(job, distinct, profile)
        n = len(job.tokens[part])
        return np.concatenate([rows[both[:n]], rows[both[n:]]], axis=1)

    def _shorten(self, job: Job) -> Floats | None:
        """The principal components of a wide embedding, from tokens all over the vocabulary."""
        embedding = self._facts.embedding
        if embedding is None:
            raise StateError("The token embedding of this model cannot be read.")
        if embedding.n_embd <= MAX_FEATURES:
            return None
        if "features" not in self.sums:
            ids = np.arange(0, embedding.n_vocab, max(embedding.n_vocab // 16384, 1), dtype=np.int32)
            rows = embedding.rows(ids)
            _, vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64))
            self.sums["features"] = np.ascontiguousarray(vectors[:, ::-1][:, :MAX_FEATURES])
        return self.sums["features"].astype(np.float16).astype(np.float32)

    # ------------------------------------------------------------------ bases

    def _solve(
        self, probe: Probe, gains: Mapping[str, NDArray[np.float32]], queries: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """The arrays of the profile."""
        arrays: dict[str, NDArray[Any]] = dict(queries)
        if "features" in self.sums:
            arrays["features"] = self.sums["features"].astype(np.float16)
        frame = self._facts.frame
        for codec in transforms():
            groups = codec.groups(frame)
            cost = functools.partial(metric, frame, self.sums, gains)
            bases = Bases(codec.name, codec.predicts, groups, frame, self.sums, cost)
            for i in range(len(groups)):
                arrays |= bases.plain(i)
            if codec.predicts:
                source = Source(probe.state, frame)
                job = _job(self._facts, source, probe.before)
                predicted = [bases.predicted(i) for i in range(len(groups))]
                arrays |= worth_it(codec, source, job, arrays, predicted)
        return arrays

    # ------------------------------------------------------------------ measurements

    def _measure(self, probe: Probe, profile: Profile) -> Iterator[float]:
        """What each codec costs at each step."""
        facts = replace(self._facts, profile=profile)
        settings = [(codec.name, step) for codec in transforms() for step in STEPS[codec.name]]
        path = self._notes.with_suffix(".probe")
        try:
            for i, (name, step) in enumerate(settings):
                parked = park(probe.state, probe.before, facts, Setting(name, step), path)
                assert parked is not None
                with ParkReader(path) as reader:
                    back = unpark(reader, facts, F16, F16, allocate)
                point = Point(step, probe.kld(back.data), parked.ratio)
                profile.points.setdefault(name, []).append(point)
                yield (i + 1) / len(settings)
        finally:
            path.unlink(missing_ok=True)


def _job(facts: ModelFacts, source: Source, tokens: Sequence[int]) -> Job:
    ids = np.asarray(tokens, np.int32)
    shifted = np.concatenate([np.array([-1], np.int32), ids[:-1]])
    at = [source.positions(p) for p in range(len(facts.frame.geometry.parts))]
    cells = tuple(len(a) for a in at)
    now, before = tuple(ids[a] for a in at), tuple(shifted[a] for a in at)
    return Job(facts.frame, Setting("learned"), cells, now, before, None, facts.embedding)
