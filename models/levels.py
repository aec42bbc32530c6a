"""How many levels the weights of a model have: ordinary ones, ternary, or 1-bit.

Types like TQ2_0 keep a sign or zero per weight and a scale per block, which loses nothing if a model was
trained so and everything if it was not. A file does not say how it was trained, but its weights do:
within a block all of them are 0 or have the same size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.byte_source import FileSource
from models.header import Header, Tensor, read_header
from models.splits import part_paths
from models.tensor_types import TENSOR_TYPES
from quantize.errors import ModelFileError

BLOCK = 256
"""Weights that share a scale in TQ1_0 and TQ2_0; Q1_0 and Q2_0 have smaller blocks."""

_RUNS, _RUN = 8, 8 * BLOCK
"""Places of a matrix that are looked at, and values at each."""

_TOLERANCE = 1e-3
"""Relative difference of sizes that rounding to f16 explains."""

_KEPT = ("norm", "ffn_gate_inp", "conv", "time_mix", "laurel", "altup", "ssm_a", "ssm_d", "sinks")
"""Parts of names of tensors that a quantizer leaves alone."""


@dataclass(frozen=True, slots=True)
class Levels:
    """What the matrices of a model's layers are made of."""

    n_matrices: int
    n_binary: int
    """Matrices whose weights are all of one size."""
    n_ternary: int
    """Matrices with zeros beside them."""
    changed: float
    """Share of the weights' size (RMS) by which the asked type would change them."""

    @property
    def levels(self) -> int:
        """2 if every matrix has two levels, 3 if every one has at most three, else 0."""
        if not self.n_matrices or self.n_binary + self.n_ternary < self.n_matrices:
            return 0
        return 2 if self.n_binary == self.n_matrices else 3

    def suits(self, levels: int) -> bool:
        """Whether a type with so many levels (0: any number) holds the weights as they are."""
        return not levels or 0 < self.levels <= levels

    def describe(self) -> str:
        """In words, after "the weights are"."""
        if self.levels == 2:
            return "1-bit: all of one size"
        if self.levels == 3:
            return "ternary: zero, or of one size"
        few = self.n_binary + self.n_ternary
        return (
            f"ordinary numbers ({few} of {self.n_matrices} matrices ternary)" if few else "ordinary numbers"
        )


def look_at(path: Path, header: Header, type_name: str = "f16") -> Levels:
    """Look at samples of every matrix of the layers.

    Args:
        path: the file, or the first of its parts.
        header: read by ``models.splits.read_model``.
        type_name: a tensor type; ``changed`` tells what it would do to the weights.

    Raises:
        ModelFileError: if the file cannot be read.
    """
    n = binary = ternary = 0
    error = size = 0.0
    for values in _samples(path, header):
        n += 1
        kind = _levels(values)
        binary += kind == 2
        ternary += kind == 3
        rest = values - _through(type_name, values)
        error += float(np.square(rest, dtype=np.float64).sum())
        size += float(np.square(values, dtype=np.float64).sum())
    return Levels(n, binary, ternary, (error / size) ** 0.5 if size else 0.0)


def layer_matrices(header: Header) -> Iterator[Tensor]:
    """The matrices that a quantizer changes, in the layers."""
    for tensor in header.tensors:
        matrix = sum(n > 1 for n in tensor.shape) >= 2 and tensor.name.endswith(".weight")
        if matrix and tensor.name.startswith("blk.") and not any(k in tensor.name for k in _KEPT):
            yield tensor


def _samples(path: Path, header: Header) -> Iterator[NDArray[np.float32]]:
    """Values of each matrix: some runs of whole blocks, spread over it; shape (runs, values)."""
    paths = part_paths(path)[: header.n_parts]
    offsets = [header.data_offset, *(read_header(p).data_offset for p in paths[1:])]
    sources = [FileSource(p) for p in paths]
    try:
        for tensor in layer_matrices(header):
            kind = TENSOR_TYPES[tensor.type_id]
            run = min(_RUN, tensor.n_elements // BLOCK * BLOCK)
            if not run:
                continue
            runs = min(_RUNS, tensor.n_elements // run)
            step = (tensor.n_elements - run) // max(runs - 1, 1) // BLOCK * BLOCK
            out = np.empty((runs, run), np.float32)
            start = offsets[tensor.part] + tensor.offset
            for i in range(runs):
                n_bytes = run // kind.block_size * kind.type_size
                data = sources[tensor.part].read_at(
                    start + i * step // kind.block_size * kind.type_size, n_bytes
                )
                if len(data) != n_bytes:
                    raise ModelFileError(f"{path.name} ends in the middle of a tensor.", "Download it again.")
                out[i] = _read(kind.id, data, run)
            yield out
    finally:
        for source in sources:
            source.close()


def _read(type_id: int, data: bytes, n: int) -> NDArray[np.float32]:
    from quantize.ggml import dequantize, row_format

    out = np.empty(n, np.float32)
    dequantize(row_format(type_id), np.frombuffer(data, np.uint8), out)
    return out


def _through(type_name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """``values`` after a type has held them."""
    from quantize.ggml import dequantize, quantize, row_format

    fmt = row_format(next(t.id for t in TENSOR_TYPES.values() if t.name == type_name))
    if fmt.from_float is None or values.size % fmt.block_size:
        return values
    packed: NDArray[Any] = np.empty(fmt.row_size(values.size), np.uint8)
    quantize(fmt, np.ascontiguousarray(values.ravel()), packed)
    out = np.empty(values.size, np.float32)
    dequantize(fmt, packed, out)
    return out.reshape(values.shape)


def _levels(values: NDArray[np.float32]) -> int:
    """2 or 3 if the values of each block are of one size (3: or zero), else 0."""
    sizes = np.abs(values).reshape(-1, BLOCK)
    largest = sizes.max(axis=1, keepdims=True)
    zero = sizes <= _TOLERANCE * largest
    same = sizes >= (1 - _TOLERANCE) * largest
    if not np.isfinite(sizes).all() or not (zero | same).all() or not largest.any():
        return 0
    return 3 if zero.any() else 2
