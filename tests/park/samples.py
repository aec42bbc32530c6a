"""States, models and calibrations made up for the codecs, of any shape."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from quantize.buffers import allocate
from quantize.geometry import Geometry
from quantize.park.below import BELOW, group_below
from quantize.park.codec import CODECS
from quantize.park.importance import queries_name
from quantize.park.parking import ModelFacts
from quantize.park.plain import SIDES, Frame, Target
from quantize.park.profile import Point, Profile
from quantize.park.transform import TransformCodec
from quantize.rope import Ropes
from quantize.rope_parameters import NEOX, NORM, RopeParameters
from quantize.state import SavedState

N_VOCAB = 64


class Vectors:
    """A random vector for every token."""

    n_embd = 16
    n_vocab = N_VOCAB

    def rows(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        table = np.random.default_rng(5).normal(size=(N_VOCAB, self.n_embd)).astype(np.float32)
        return table[np.clip(tokens, 0, N_VOCAB - 1)]


def turning(geometry: Geometry, *, halves: bool = False) -> Ropes:
    """Every layer by the same base."""
    mode = NEOX if halves else NORM
    return tuple(
        tuple(RopeParameters(n_dims=heads.head_dim_k, mode=mode).rope() for heads in part)
        for part in geometry.parts
    )


def orthogonal(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    return np.linalg.qr(rng.normal(size=(n, n)))[0].astype(np.float32)


@functools.cache
def facts_for(
    geometry: Geometry, *, halves: bool = False, mark: str = "m" * 32, queries: bool = True
) -> ModelFacts:
    """A model of this shape with a calibration that fits nothing but its shape."""
    frame = Frame(geometry, turning(geometry, halves=halves))
    rng = np.random.default_rng(3)
    arrays: dict[str, NDArray[np.float32]] = {}
    for p, layers in enumerate(geometry.parts):
        for i, heads in enumerate(layers):
            if queries:
                shape = (heads.n_head_kv, 8, heads.head_dim_k)
                arrays[queries_name(p, i)] = rng.normal(size=shape).astype(np.float16)
    for codec in CODECS.values():
        if isinstance(codec, TransformCodec):
            groups = codec.groups(frame)
            for i, group in enumerate(groups):
                width = group.width(frame)
                arrays[f"{codec.name}.basis.{i}"] = orthogonal(rng, width)
                arrays[f"{codec.name}.scale.{i}"] = np.array([0.7], np.float32)
                arrays[f"{codec.name}.mean.{i}"] = rng.normal(size=width).astype(np.float32)
                if codec.predicts:
                    shape = (2 * Vectors.n_embd, width)
                    arrays[f"{codec.name}.predictor.{i}"] = rng.normal(size=shape).astype(np.float32) / 8
                    below = group_below(groups, i)
                    if below is not None and i % 3:  # not every group is predicted from another
                        shape = (groups[below].width(frame), width)
                        told = rng.normal(size=shape) / shape[0] ** 0.5
                        arrays[f"{codec.name}.{BELOW}.{i}"] = told.astype(np.float32)
    profile = Profile(mark, arrays, {"learned": [Point(0.02, 0.0001, 6.0), Point(0.1, 0.004, 14.0)]})
    profile.seal()
    return ModelFacts(mark, frame, Vectors(), profile)


def state_of(
    facts: ModelFacts, n_cells: tuple[int, ...], type_k: int = 1, type_v: int = 1, seed: int = 0
) -> tuple[SavedState, list[int]]:
    """A state with random values, the newest cells of a text in every part; and its tokens."""
    n_tokens = max(n_cells, default=0)
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, N_VOCAB, n_tokens)
    at = [np.arange(n_tokens - n, n_tokens, dtype=np.int32) for n in n_cells]
    target = Target(facts.frame, at, type_k, type_v)
    target.begin(allocate(target.size))
    for p, layers in enumerate(facts.frame.geometry.parts):
        for layer in range(len(layers)):
            for side in SIDES:
                shape = (n_cells[p], facts.frame.width(p, layer, side))
                spread = np.geomspace(3, 0.1, shape[1]) if shape[1] else np.ones(0)
                target.put(p, layer, side, 0, (rng.normal(size=shape) * spread).astype(np.float32))
    return target.finish(), [int(t) for t in tokens]
