"""Importance matrices: how much each input of a matrix matters, so that a quantizer spends its bits there.

llama.cpp's tool ``llama-imatrix`` writes them as GGUF (sums of squares and counts per matrix) or, in
its older form, as a plain list. Both are read as ``tools/quantize`` reads them.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from quantize.errors import UsageError

Importance = dict[str, NDArray[np.float32]]
"""By the name of the matrix: one value per input (and per expert)."""

MAX_BYTES = 2 << 30
_MAX_NAME = 1024


def read_importance(path: Path) -> Importance:
    """The importance matrices in a file.

    Raises:
        UsageError: if it cannot be read or holds none.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UsageError(f"{path.name} is too large for an importance matrix.")
        with path.open("rb") as file:
            if file.read(4) == b"GGUF":
                found = _read_gguf(path)
            else:
                file.seek(0)
                found = _read_list(file, size)
    except (OSError, ValueError, IndexError, KeyError, struct.error, OverflowError) as error:
        raise _unreadable(path) from error
    if not found or not all(np.isfinite(values).all() for values in found.values()):
        raise _unreadable(path)
    return found


def _unreadable(path: Path) -> UsageError:
    return UsageError(
        f"{path} holds no importance matrix.",
        "Make one with llama.cpp's tool llama-imatrix from the same model.",
    )


def _read_gguf(path: Path) -> Importance:
    """``NAME.in_sum2`` (a row per expert) divided by ``NAME.counts``; without a count everything matters
    alike."""
    from gguf import GGUFReader

    tensors = {t.name: t.data for t in GGUFReader(path).tensors}
    found: Importance = {}
    for name, counts in tensors.items():
        if not name.endswith(".counts"):
            continue
        base = name.removesuffix(".counts")
        sums, n = tensors[f"{base}.in_sum2"].astype(np.float32).ravel(), np.rint(counts.ravel())
        rows = sums.reshape(n.size, -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            means = np.where(n[:, None] > 0, rows / n[:, None], 1.0)
        found[base] = np.ascontiguousarray(means.ravel(), np.float32)
    return found


def _read_list(file: BinaryIO, size: int) -> Importance:
    """Per entry: name, number of calls, and values that are summed over the calls."""
    found: Importance = {}
    (n_entries,) = struct.unpack("<i", file.read(4))
    if not 0 < n_entries < 1 << 20:
        raise ValueError("no list of matrices")
    for _ in range(n_entries):
        (length,) = struct.unpack("<i", file.read(4))
        if not 0 < length <= _MAX_NAME:
            raise ValueError("no name of a matrix")
        name = file.read(length).decode("utf-8", "replace")
        n_calls, n_values = struct.unpack("<ii", file.read(8))
        if not 0 < n_values <= (size - file.tell()) // 4:
            raise ValueError("no values of a matrix")
        values = np.frombuffer(file.read(4 * n_values), "<f4").astype(np.float32)
        found[name] = values / n_calls if n_calls > 0 else values
    return found
