"""Calibrating a model: the bases, the predictor and the weights of its codecs, from its own activations.

The model reads a text, a few thousand tokens at a time; of each stretch only second moments are kept, so that
the length of the text costs no memory. Then it is measured what a change of K or V of each layer costs
(KLD for each squared unit of noise), and what each codec costs at several steps, on a stretch of the text
that the bases have not seen.

Every stretch that was read is written to a file, from which an interrupted calibration goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from quantize.buffers import allocate
from quantize.errors import EngineError, OutOfMemoryError, StateError
from quantize.lab.divergence import log_softmax
from quantize.llama import Context, Model
from quantize.park.bases import Bases
from quantize.park.below import group_below
from quantize.park.choice import worth_it
from quantize.park.codec import CODECS, Job, Setting
from quantize.park.file import ParkReader
from quantize.park.parking import ModelFacts, park, unpark
from quantize.park.plain import SIDES, Floats, Side, Source
from quantize.park.profile import Point, Profile, read_arrays, write_arrays
from quantize.park.transform import TransformCodec, token_features
from quantize.state import SavedState, read_state

STRETCH = 4096
"""Tokens that are read as one text."""
PROBE = 2048
"""Tokens that are compressed for a measurement, and"""
AFTER = 256
"""the tokens after them whose answers are compared."""
LEAST = STRETCH + PROBE + AFTER
"""Fewer tokens than this are no text to calibrate with."""
NOISE = 0.4
"""Of the standard deviation: noise whose effect is measured."""
FLOOR_NOISE = 1e-3
"""Noise that is too small to matter. What it changes is the model's own rounding (8-bit weights round their
inputs to 8 bits, too), which is in every measurement and is no property of a layer."""
STEPS = (0.02, 0.03, 0.045, 0.07, 0.1, 0.14)
MAX_FEATURES = 768
"""A wider embedding is shortened to this many principal components."""
F16 = 1
MOMENTS = b"2"
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
                f"Give one of at least {LEAST:,}; 20,000 and more are better.",
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
            while self._n_read < len(self._stretches):
                yield Progress("reading", 0.5 * self._n_read / len(self._stretches))
                tokens = self._stretches[self._n_read]
                self.add(_read(context, tokens), tokens)
                self._n_read += 1
                self._remember()
            probe = _Probe(context, self._probe)
            weights: dict[str, NDArray[np.float32]] = {}
            for fraction in self._weigh(probe, weights):
                yield Progress("weighing the layers", 0.5 + 0.2 * fraction)
            profile = Profile(self._facts.fingerprint, self._solve(probe, weights), {}, self.n_tokens)
            profile.seal()
            for fraction in self._measure(probe, profile):
                yield Progress("measuring the codecs", 0.7 + 0.3 * fraction)
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
        for p, layers in enumerate(frame.geometry.parts):
            for side in SIDES:
                squares = [
                    float(np.var(source.plain(p, i, side, 4, job.cells[p]))) for i in range(len(layers))
                ]
                self._sum(f"var.{p}.{side}", np.array(squares))

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

    def _solve(self, probe: _Probe, weights: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
        """The arrays of the profile."""
        arrays: dict[str, NDArray[Any]] = dict(weights)
        if "features" in self.sums:
            arrays["features"] = self.sums["features"].astype(np.float16)
        frame = self._facts.frame
        for codec in transforms():
            groups = codec.groups(frame)
            bases = Bases(codec.name, codec.predicts, groups, frame, self.sums, weights)
            for i in range(len(groups)):
                arrays |= bases.plain(i)
            if codec.predicts:
                source = Source(probe.state, frame)
                job = _job(self._facts, source, probe.before)
                predicted = [bases.predicted(i) for i in range(len(groups))]
                arrays |= worth_it(codec, source, job, arrays, predicted)
        return arrays

    # ------------------------------------------------------------------ measurements

    def _weigh(self, probe: _Probe, weights: dict[str, NDArray[np.float32]]) -> Iterator[float]:
        """sqrt(KLD for each squared unit of noise), of K and V of every layer."""
        rng = np.random.default_rng(1)
        parts = self._facts.frame.geometry.parts
        total = 2 * sum(len(layers) for layers in parts)
        done = 0
        floor = probe.kld(_with_noise(probe.state, 0, 0, "k", FLOOR_NOISE, rng))
        for p, layers in enumerate(parts):
            for side in SIDES:
                variance = self.sums[f"var.{p}.{side}"] / max(self._n_read, 1)
                found = np.ones(len(layers))
                for layer in range(len(layers)):
                    sigma = NOISE * float(np.sqrt(max(variance[layer], 1e-12)))
                    kld = probe.kld(_with_noise(probe.state, p, layer, side, sigma, rng))
                    found[layer] = np.sqrt(max(kld - floor, kld / 20, 1e-9)) / sigma
                    done += 1
                    yield done / total
                weights[f"weight.{p}.{side}"] = found.astype(np.float32)

    def _measure(self, probe: _Probe, profile: Profile) -> Iterator[float]:
        """What each codec costs at each step."""
        facts = replace(self._facts, profile=profile)
        codecs = transforms()
        path = self._notes.with_suffix(".probe")
        try:
            for i, codec in enumerate(codecs):
                found = profile.points[codec.name] = []
                for j, step in enumerate(STEPS):
                    parked = park(probe.state, probe.before, facts, Setting(codec.name, step), path)
                    assert parked is not None
                    with ParkReader(path) as reader:
                        back = unpark(reader, facts, F16, F16, allocate)
                    found.append(Point(step, probe.kld(back.data), parked.ratio))
                    yield (i * len(STEPS) + j + 1) / (len(codecs) * len(STEPS))
        finally:
            path.unlink(missing_ok=True)


class _Probe:
    """A text whose beginning is compressed, and the answers that follow it."""

    def __init__(self, context: Context, tokens: Sequence[int]) -> None:
        self._context = context
        self.before, self._after = list(tokens[:-AFTER]), list(tokens[-AFTER:])
        self.state = _read(context, self.before)
        self._reference = self._answers(self.state.data)

    def _answers(self, data: NDArray[np.uint8]) -> NDArray[np.float64]:
        context = self._context
        context.clear()
        if not context.load_state(data):
            raise EngineError("llama.cpp refused a state during the calibration.")
        if context.decode(self._after, len(self.before), logits="all"):
            raise EngineError("llama.cpp could not read the text of the calibration.")
        pointer = L.llama_get_logits(context.handle)
        logits = np.ctypeslib.as_array(pointer, shape=(len(self._after), context.model.n_vocab))
        return log_softmax(logits)

    def kld(self, data: NDArray[np.uint8]) -> float:
        """Mean KLD of the answers with the cache ``data``."""
        p, q = self._reference, self._answers(data)
        return float(np.maximum(np.einsum("ij,ij->i", np.exp(p), p - q), 0).mean())


def _read(context: Context, tokens: Sequence[int]) -> SavedState:
    """The f16 state after ``tokens``."""
    context.clear()
    for at in range(0, len(tokens), context.n_batch):
        if context.decode(tokens[at : at + context.n_batch], at, logits="none"):
            raise EngineError("llama.cpp could not read the text of the calibration.")
    data = allocate(context.state_size())
    return read_state(data[: context.save_state(data)])


def _job(facts: ModelFacts, source: Source, tokens: Sequence[int]) -> Job:
    ids = np.asarray(tokens, np.int32)
    shifted = np.concatenate([np.array([-1], np.int32), ids[:-1]])
    at = [source.positions(p) for p in range(len(facts.frame.geometry.parts))]
    cells = tuple(len(a) for a in at)
    now, before = tuple(ids[a] for a in at), tuple(shifted[a] for a in at)
    return Job(facts.frame, Setting("learned"), cells, now, before, None, facts.embedding)


def _with_noise(
    state: SavedState, part: int, layer: int, side: Side, sigma: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The f16 state with Gaussian noise on one side of one layer, but for its ends."""
    data = state.data.copy()
    p = state.parts[part]
    rows = (p.k if side == "k" else p.v)[layer]
    block = data[rows.offset : rows.offset + rows.size].view(np.uint8).copy().view(np.float16)
    values = block.reshape(p.n_cells, -1).astype(np.float32)
    values[4:-8] += rng.normal(0, sigma, values[4:-8].shape).astype(np.float32)
    data[rows.offset : rows.offset + rows.size] = values.astype(np.float16).reshape(-1).view(np.uint8)
    return data
