"""What a cache setting would cost on a model, guessed from its file before anything was measured.

The noise of a quantized row grows with the whole row, but only what varies from token to token tells
anything. Two tensors say how much of K does not:

- ``attn_k.bias`` (Qwen2 and others): a constant in every K. Where its mean square is a hundred times that
  of the rest, the noise is, too.
- ``attn_k_norm.weight`` (Qwen3, Gemma 3): a gain for each channel. The Hadamard rotation spreads the noise of
  a few loud channels over all the quiet ones.

The guess errs on the careful side: ``tests/models/test_loss_estimate.py`` holds it against what was
measured on real models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.byte_source import FileSource
from models.header import Header, Tensor, read_header
from models.splits import part_paths
from models.tensor_types import TENSOR_TYPES
from quantize.cache_types import CachePair
from quantize.errors import ModelFileError
from quantize.lab.loss import Loss

NOISE = {
    "f32": 0.0,
    "f16": 0.0,
    "bf16": 2.8e-6,
    "q8_0": 2.9e-5,
    "q5_1": 1.4e-3,
    "q5_0": 1.8e-3,
    "q4_1": 6.1e-3,
    "q4_0": 7.4e-3,
    "iq4_nl": 6.2e-3,
    "mxfp4": 1.3e-2,
    "nvfp4": 9.0e-3,
    "tq4": 5.2e-3,
    "tq3": 1.9e-2,
    "tq2": 7.2e-2,
    "q2_0": 0.51,
    "q1_0": 0.36,
}
"""Mean square error of normal values of size 1 after a round trip through each type."""

OFFSET_TYPES = ("q5_1", "q4_1")
"""Types with an offset per block: on rows with loud channels they lose more than their bits say."""

K_WEIGHT, V_WEIGHT = 6.0, 1.5
"""Nats per noise of K and V, of a model whose K has no constant."""

WINDOW_SHARE = 0.2
"""Of the loss that is left beside an exact window: attention looks at the newest tokens most."""

NORM_CARE = 2.0
"""Loud channels cost more than their mean square says: on Gemma 3 twice as much."""

MOST = 4.0
"""Nats that a broken model is off by."""

UNREAD_BIAS, UNREAD_NORM = 100.0, 10.0
"""Gains of the noise where the tensor is there and its values are not (a model on the hub)."""

COARSE_BITS = 6.0
"""Weights with fewer bits are multiplied with activations of 8 bits, and any change flips roundings."""

COARSE_FLOOR, FINE_FLOOR = 0.003, 0.0003


@dataclass(frozen=True, slots=True)
class KFacts:
    """What the file says of K."""

    gain: float = 1.0
    """How many times the noise of K counts, against a model whose K has no constant and no loud channels."""
    centred_gain: float = 1.0
    """The same for K that is stored without its constant."""
    floor: float = COARSE_FLOOR
    """KLD that rounding alone is expected to make."""


@dataclass(frozen=True, slots=True)
class Parts:
    """KLD that K and V are expected to make, above the floor and before they saturate."""

    k: float
    v: float


def parts(facts: KFacts, pair: CachePair, *, centred: bool = False) -> Parts:
    """What each side of a setting is expected to cost.

    Args:
        centred: whether K of this type is stored without its constant.
    """
    gain = facts.centred_gain if centred else facts.gain
    noise = NOISE[pair.k.name]
    if pair.k.name in OFFSET_TYPES and gain > 1:
        noise = max(noise, NOISE["q4_0"])
    return Parts(K_WEIGHT * noise * gain, V_WEIGHT * NOISE[pair.v.name])


def estimate(facts: KFacts, pair: CachePair, tail: int = 0, *, centred: bool = False) -> Loss:
    """The expected loss of a setting.

    Args:
        tail: newest tokens that stay exact.
        centred: whether K of this type is stored without its constant.
    """
    if not (pair.k.quantized or pair.v.quantized):
        return Loss(0.0, 1.0, facts.floor)
    side = parts(facts, pair, centred=centred)
    raw = (side.k + side.v) * (WINDOW_SHARE if tail else 1.0)
    kld = facts.floor + MOST * (1 - math.exp(-raw / MOST))
    return Loss(kld, max(0.05, 1 - 0.45 * kld ** (1 / 3)), facts.floor)


def k_facts(header: Header, path: Path | None = None) -> KFacts:
    """What the file says of K.

    Args:
        header: read by ``models.splits.read_model``.
        path: the file, or the first of its parts; None if only the header is there.

    Returns:
        careful values where something cannot be read.
    """
    tensors = [t for t in header.tensors if t.name.startswith("blk.")]
    biases = [t for t in tensors if t.name.endswith("attn_k.bias")]
    fused = [t for t in tensors if t.name.endswith("attn_qkv.bias")]
    norms = [t for t in tensors if t.name.endswith("attn_k_norm.weight")]
    bias = spread = 1.0
    try:
        if biases or fused:
            bias = UNREAD_BIAS if path is None else _bias_gain(header, path, biases, fused)
        if norms:
            spread = UNREAD_NORM if path is None else _norm_gain(header, path, norms)
    except (ModelFileError, OSError):
        bias, spread = UNREAD_BIAS if biases or fused else 1.0, UNREAD_NORM if norms else 1.0
    coarse = _bits(header) < COARSE_BITS
    return KFacts(bias * spread, spread, COARSE_FLOOR if coarse else FINE_FLOOR)


def _bias_gain(header: Header, path: Path, biases: list[Tensor], fused: list[Tensor]) -> float:
    """1 and the mean square of K's constant, over all layers: what varies in K has a size of about 1."""
    squares = [float(np.square(values).mean()) for values in _values(header, path, biases)]
    for tensor, values in zip(fused, _values(header, path, fused), strict=True):
        layer = int(tensor.name.split(".")[1])
        squares.append(float(np.square(_k_of(header, layer, values)).mean()))
    found = 1 + float(np.mean(squares)) if squares else 1.0
    return found if math.isfinite(found) else UNREAD_BIAS


def _k_of(header: Header, layer: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """K's part of a bias of Q, K and V together."""
    from models.geometry import read_shape

    one = read_shape(header).layers[layer]
    first = one.n_head * one.heads.head_dim_k
    return values[first : first + one.heads.n_embd_k] if len(values) > first else values


def _norm_gain(header: Header, path: Path, norms: list[Tensor]) -> float:
    """How much louder K is than its median channel, as a mean of squares over the layers."""
    gains = []
    for values in _values(header, path, norms):
        squares = np.square(values.astype(np.float64))
        heard = squares[squares > 0]  # a channel of zeros tells nothing and takes no noise of its own
        gains.append(float(squares.mean() / np.median(heard)) if len(heard) else 1.0)
    found = float(np.mean(gains)) if gains else 1.0
    return max(1.0, NORM_CARE * found) if math.isfinite(found) else UNREAD_NORM


def _bits(header: Header) -> float:
    """Bits per weight of the matrices of the layers."""
    matrices = [t for t in header.tensors if t.name.startswith("blk.") and sum(n > 1 for n in t.shape) >= 2]
    n = sum(t.n_elements for t in matrices)
    return 8.0 * float(sum(t.n_bytes for t in matrices)) / n if n else 16.0


def _values(header: Header, path: Path, tensors: list[Tensor]) -> Iterator[NDArray[np.float32]]:
    """Values of small tensors.

    Raises:
        ModelFileError: if they cannot be read.
    """
    paths = part_paths(path)[: header.n_parts]
    offsets = [header.data_offset, *(read_header(p).data_offset for p in paths[1:])]
    sources = [FileSource(p) for p in paths]
    try:
        for tensor in tensors:
            data = sources[tensor.part].read_at(offsets[tensor.part] + tensor.offset, tensor.n_bytes)
            if len(data) != tensor.n_bytes:
                raise ModelFileError(f"{path.name} ends in the middle of a tensor.", "Download it again.")
            yield _floats(TENSOR_TYPES[tensor.type_id].name, data)
    finally:
        for source in sources:
            source.close()


def _floats(name: str, data: bytes) -> NDArray[np.float32]:
    match name:
        case "f32":
            return np.frombuffer(data, np.float32)
        case "f16":
            return np.frombuffer(data, np.float16).astype(np.float32)
        case "bf16":
            return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    raise ModelFileError(f"A norm or a bias is stored as {name}, which is not expected.")
