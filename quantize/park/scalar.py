"""TurboQuant of 1 to 4 bits a value: a rotation, one scale for each vector, and the levels that suit a
Gaussian best.

The rotation makes the coordinates of any vector nearly Gaussian (arXiv:2504.19874), so that one
codebook serves all: Lloyd-Max levels of N(0, 1). Blocks hold the levels' numbers, entropy-coded where that is
shorter, and one f16 scale for every vector, which makes the projection of the result on the vector right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantize.errors import StateError, UsageError
from quantize.park import rans
from quantize.park.codec import Blocks, Codec, Job, Setting, Sink, spans
from quantize.park.plain import SIDES, Floats, Frame, Source, Target
from quantize.park.tables import library
from quantize.rotation import hadamard
from quantize.turboquant.lloyd_max import lloyd_max

DEFAULT_BITS = 3
_LONGEST = 256


class TurboQuant(Codec):
    """Works on any cache without calibration."""

    name = "turboquant"
    about = "A rotation and 1 to 4 bits a value, for example turboquant:3; no calibration."

    def check(self, setting: Setting) -> Setting:
        bits = setting.step or DEFAULT_BITS
        if setting.type_name or bits not in (1, 2, 3, 4):
            raise UsageError(
                "The codec turboquant takes 1, 2, 3 or 4 bits.", "Write for example turboquant:3."
            )
        return Setting(self.name, step=float(bits))

    def obstacle(self, frame: Frame, setting: Setting) -> str:
        return rans.obstacle()

    def encode(self, source: Source, job: Job, sink: Sink) -> None:
        levels, edges = codebook(int(job.setting.step))
        for part, layers in enumerate(job.frame.geometry.parts):
            for layer in range(len(layers)):
                for side in SIDES:
                    length = vector_length(job.frame.width(part, layer, side))
                    for span in spans(job.cells[part]):
                        x = source.turned(part, layer, side, span.start, span.end)
                        sink(_encode(x, length, levels, edges))

    def decode(self, blocks: Blocks, job: Job, target: Target) -> None:
        levels, _ = codebook(int(job.setting.step))
        for part, layers in enumerate(job.frame.geometry.parts):
            for layer in range(len(layers)):
                for side in SIDES:
                    width = job.frame.width(part, layer, side)
                    for span in spans(job.cells[part]):
                        x = _decode(next(blocks), span.end - span.start, width, levels)
                        target.put_turned(part, layer, side, span.start, x)


def vector_length(width: int) -> int:
    """Values that share a scale and are rotated together: a power of two that divides a row."""
    length = 1
    while length < _LONGEST and width % (2 * length) == 0:
        length *= 2
    return length


def codebook(bits: int) -> tuple[Floats, Floats]:
    """Lloyd-Max levels of N(0, 1) and the edges between them."""
    levels = np.array(lloyd_max(bits), np.float32)
    return levels, ((levels[1:] + levels[:-1]) / 2).astype(np.float32)


def _encode(x: Floats, length: int, levels: Floats, edges: Floats) -> bytes:
    if not x.size:
        return b""
    vectors = x.reshape(-1, length)
    hadamard(vectors.reshape(-1), length)
    scale = np.sqrt(np.mean(vectors * vectors, axis=1, keepdims=True))
    scale[scale == 0] = 1
    number = np.searchsorted(edges, vectors / scale)
    found = levels[number]
    # The projection of the result on the vector is the vector's own length.
    norm = np.sum(found * found, axis=1, keepdims=True)
    scale = np.sum(vectors * found, axis=1, keepdims=True) / norm
    scales = np.clip(scale, -65504, 65504).astype(np.float16)
    z = np.ascontiguousarray(number.reshape(1, -1).astype(np.int32) - len(levels) // 2)
    table, shift, _ = rans.choose(z)
    return b"".join((scales.tobytes(), table.tobytes(), shift.tobytes(), rans.encode(z, table, shift)))


def _decode(data: bytes, n: int, width: int, levels: Floats) -> Floats:
    length = vector_length(width)
    n_vectors = n * width // length
    if not n_vectors:
        return np.empty((n, width), np.float32)
    if len(data) < 2 * n_vectors + 2:
        raise StateError("A block of the parked conversation is too short.")
    scales = np.frombuffer(data, np.float16, n_vectors).astype(np.float32)
    table: NDArray[np.uint8] = np.frombuffer(data, np.uint8, 1, 2 * n_vectors)
    shift: NDArray[np.uint8] = np.frombuffer(data, np.uint8, 1, 2 * n_vectors + 1)
    if table[0] >= len(library().freq):
        raise StateError("A block of the parked conversation names a distribution that there is not.")
    z = rans.decode(data[2 * n_vectors + 2 :], n * width, table, shift)[0] + len(levels) // 2
    if z.min() < 0 or z.max() >= len(levels):
        raise StateError("A block of the parked conversation holds a level that there is not.")
    x = levels[z].reshape(-1, length) * scales[:, None]
    x = np.ascontiguousarray(x, np.float32)
    hadamard(x.reshape(-1), length)
    return x.reshape(n, width)
