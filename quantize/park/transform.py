"""Codecs that describe the rows of some layers in a basis of their own.

For a vector x of the rows of some layers at one token::

    y = S^-1 (x - prediction)        S = M^(-1/2) U
    z = dead-zone quantizer of y with one step for all components, entropy-coded

M says what a square error of x costs, in every direction (``sensitivity.py``); U are the eigenvectors of the
covariance of M^(1/2) (x - prediction) (the Karhunen-Loeve transform), so that the components are not
correlated and an error costs the same in each of them. One step for all components and an entropy coder is
reverse water-filling: a component whose variance is below the water level quantizes to zero and costs
nothing, every other one has the same distortion. The step of a token is the smaller the more it matters
(``importance.py``). ``lowrank`` has a basis for K and one for V of every layer (the KVTC recipe,
arXiv:2511.01815, with a predictor of zero), ``crosslayer`` one for neighbouring layers (xKV), ``learned`` one
for K and V of a layer after a linear prediction from the token and the one before it, which are known, and
from the layer below (``below.py``), which has been decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from quantize import ggml
from quantize.errors import StateError, UsageError
from quantize.park import rans
from quantize.park.below import Chain
from quantize.park.classes import Classes
from quantize.park.codec import Blocks, Codec, Job, Setting, Sink, Span, spans
from quantize.park.coded import Coded
from quantize.park.importance import Importance
from quantize.park.plain import Floats, Frame, Source, Target
from quantize.park.product import Known, centre, product, uncentre
from quantize.park.profile import Group, Profile, groups

MOST = 1024
"""Values of the longest vector."""
DEFAULT_STEP = 0.07

Places = NDArray[np.int64]


class TransformCodec(Codec):
    """The common part: everything but which rows go together and whether they are predicted."""

    needs_profile = True
    layers_together: ClassVar[int]
    predicts: ClassVar[bool] = False

    def check(self, setting: Setting) -> Setting:
        step = setting.step or DEFAULT_STEP
        if setting.type_name or not 1e-4 <= step <= 10:
            raise UsageError(
                f"{self.name} takes a step of 0.0001 to 10.", f"Write for example {self.name}:0.05."
            )
        return Setting(self.name, step)

    def obstacle(self, frame: Frame, setting: Setting) -> str:
        return rans.obstacle()

    def groups(self, frame: Frame) -> list[Group]:
        """The rows that are coded together."""
        return groups(frame, MOST, self.layers_together)

    def encode(self, source: Source, job: Job, sink: Sink) -> None:
        model = Arrays(self, job)
        chain = model.chain()
        importance = Importance(source, model.arrays)
        for index, group in enumerate(model.groups):
            of_token = importance.classes(group.part, group.layers)
            for number, span in enumerate(spans(job.cells[group.part])):
                told = chain.told(index, number)
                classes = Classes(of_token[span.start : span.end])
                coded = code(model, source, index, span, classes, told, job.setting.step)
                sink(coded.pack())
                if chain.needs(index):
                    chain.tell(index, number, residual(model, index, coded, told, job.setting.step))

    def decode(self, blocks: Blocks, job: Job, target: Target) -> None:
        model = Arrays(self, job)
        chain = model.chain()
        for index, group in enumerate(model.groups):
            for number, span in enumerate(spans(job.cells[group.part])):
                told = chain.told(index, number)
                coded = Coded.unpack(next(blocks), span.end - span.start, model.width(index))
                xt = residual(model, index, coded, told, job.setting.step)
                if chain.needs(index):
                    chain.tell(index, number, xt)
                known = model.known(index, span)
                for layer, side, where in group.slices(job.frame):
                    rows = uncentre(xt, 1.0, known, where.start, where.stop - where.start)
                    target.put(group.part, layer, side, span.start, rows)


def code(
    model: Arrays, source: Source, index: int, span: Span, classes: Classes, told: Floats | None, step: float
) -> Coded:
    """What of a stretch of tokens is neither known nor told, in whole steps."""
    group = model.groups[index]
    known = model.known(index, span)
    xt = np.empty((model.width(index), span.end - span.start), np.float32)
    for layer, side, where in group.slices(source.frame):
        centre(source.plain(group.part, layer, side, span.start, span.end), 1.0, known, where.start, xt)
    if told is not None:
        xt -= told
    y = product(model.analysis(index), xt)
    if len(classes.runs) > 1:
        y = np.take(y, classes.order, axis=1)
    return Coded.of(y, step, classes)


def residual(model: Arrays, index: int, coded: Coded, told: Floats | None, step: float) -> Floats:
    """What a decoder knows of a stretch of tokens beside what is known of them, shape (width, tokens)."""
    y = coded.values(step)
    if len(coded.classes.runs) > 1:
        y = np.take(y, coded.classes.back, axis=1)
    xt = product(model.components(index)[coded.kept], y)
    if told is not None:
        xt += told
    return xt


class Arrays:
    """The arrays of the profile as a codec needs them."""

    def __init__(self, codec: TransformCodec, job: Job) -> None:
        if job.profile is None:
            raise StateError(f"The codec {codec.name} needs a calibration of this model.")
        self._codec, self._job, self._profile = codec, job, job.profile
        self.groups = codec.groups(job.frame)
        self._distinct: list[tuple[Floats, Places, Places]] = []

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """All of the profile."""
        return self._profile.arrays

    def chain(self) -> Chain:
        """What each group tells of the one above it."""
        widths = [self.width(i) for i in range(len(self.groups))]
        return Chain(self._codec.name, self.groups, widths, self._profile.arrays, self.array)

    def width(self, index: int) -> int:
        """Values of a group's vector."""
        return self.groups[index].width(self._job.frame)

    def array(self, name: str, *shape: int) -> Floats:
        """One array of the profile as float32."""
        found = self._profile.arrays.get(name)
        if found is None or found.shape != shape:
            raise StateError("The calibration does not fit this model.", "Calibrate the model again.")
        return as_float32(found)

    @lru_cache(maxsize=1)  # noqa: B019  # dies with this object, which lives for one file
    def components(self, index: int) -> Floats:
        """What each component adds to the vector: S, a component in each row."""
        width, name = self.width(index), f"{self._codec.name}.basis.{index}"
        scale = self.array(f"{self._codec.name}.scale.{index}", 1)
        return np.ascontiguousarray(self.array(name, width, width).T) * scale

    @lru_cache(maxsize=1)  # noqa: B019
    def analysis(self, index: int) -> Floats:
        """S^-1, a component in each column. Only a writer needs it: a reader gets the same bytes whatever the
        rounding of this inverse is."""
        return np.ascontiguousarray(np.linalg.inv(self.components(index)), np.float32)

    def known(self, index: int, span: Span) -> Known:
        """What is known of these tokens before their code is read."""
        now, before = self._tables(index)
        if before is None:
            return Known(now, np.zeros(span.end - span.start, np.int64))
        _, at, at_before = self._features(self.groups[index].part)
        return Known(now, at[span.start : span.end], before, at_before[span.start : span.end])

    @lru_cache(maxsize=1)  # noqa: B019
    def _tables(self, index: int) -> tuple[Floats, Floats | None]:
        """What each distinct token tells of itself (with the mean) and of the one after it."""
        width, name = self.width(index), self._codec.name
        mean = self.array(f"{name}.mean.{index}", width)
        if not self._codec.predicts:
            return mean[None], None
        features, _, _ = self._features(self.groups[index].part)
        n = len(features)
        both = self.array(f"{name}.predictor.{index}", 2 * n, width)
        now = product(features, both[:n])
        now += mean
        return now, product(features, both[n:])

    def _features(self, part: int) -> tuple[Floats, Places, Places]:
        """Features of the distinct tokens, shape (features, tokens), and which of them each cell and the
        one before it has."""
        while len(self._distinct) <= part:
            p = len(self._distinct)
            tokens, before = self._job.tokens[p], self._job.before[p]
            distinct, both = np.unique(np.concatenate([tokens, before]), return_inverse=True)
            features = np.ascontiguousarray(token_features(self._job, distinct, self._profile).T)
            both = both.astype(np.int64)
            self._distinct.append((features, both[: len(tokens)], both[len(tokens) :]))
        return self._distinct[part]


def as_float32(values: NDArray[Any]) -> Floats:
    """``values`` contiguous, f16 by ggml, which is several times faster than numpy."""
    values = np.ascontiguousarray(values)
    if values.dtype != np.float16:
        return values.astype(np.float32, copy=False)
    out = np.empty(values.shape, np.float32)
    if out.size:
        ggml.dequantize(ggml.row_format(ggml.F16), values.reshape(-1).view(np.uint8), out)
    return out


def token_features(job: Job, tokens: NDArray[np.int32], profile: Profile) -> Floats:
    """What is known of a token, shape (len(tokens), features)."""
    if job.embedding is None:
        raise StateError("The token embedding of this model cannot be read.")
    rows = job.embedding.rows(tokens)
    shorten = profile.arrays.get("features")
    return rows @ np.asarray(shorten, np.float32) if shorten is not None else rows


class LowRank(TransformCodec):
    """One basis for K and one for V of every layer."""

    name = "lowrank"
    about = "A basis for K and one for V of every layer (PCA), bits by reverse water-filling."
    layers_together = 0


class CrossLayer(TransformCodec):
    """One basis for K and V of two neighbouring layers."""

    name = "crosslayer"
    about = "One basis for K and V of two neighbouring layers."
    layers_together = 2


class Learned(TransformCodec):
    """K and V of a layer after a prediction from the tokens and the layer below."""

    name = "learned"
    about = "What neither the tokens nor the layer below tell of K and V of a layer, in a basis of its own."
    layers_together = 1
    predicts = True
