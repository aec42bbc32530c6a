"""Importance matrices in both of llama.cpp's forms."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from quantize.errors import UsageError
from quantize.weights.importance import read_importance

VALUES = np.arange(1, 9, dtype=np.float32)


def as_list(entries: dict[str, tuple[int, np.ndarray]]) -> bytes:
    """llama-imatrix' older form."""
    out = struct.pack("<i", len(entries))
    for name, (calls, values) in entries.items():
        out += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, values.size)
        out += values.astype("<f4").tobytes()
    return out + struct.pack("<ii", 3, 0)


def as_gguf(path: Path, entries: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """llama-imatrix' present form."""
    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    for name, (sums, counts) in entries.items():
        writer.add_tensor(f"{name}.in_sum2", sums)
        writer.add_tensor(f"{name}.counts", counts)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_older_form(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(as_list({"a.weight": (2, VALUES), "b.weight": (0, VALUES)}))
    found = read_importance(path)
    assert (found["a.weight"] == VALUES / 2).all() and (found["b.weight"] == VALUES).all()


def test_the_present_form(tmp_path: Path) -> None:
    experts = np.stack([VALUES, VALUES * 2, VALUES])
    path = as_gguf(
        tmp_path / "imatrix.gguf",
        {
            "a.weight": (VALUES[None], np.array([[4]], np.float32)),
            "e.weight": (experts, np.array([[1], [2], [0]], np.float32)),
        },
    )
    found = read_importance(path)
    assert (found["a.weight"] == VALUES / 4).all()
    assert (found["e.weight"] == np.concatenate([VALUES, VALUES, np.ones(8, np.float32)])).all()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGUF",
        b"GGUF" + bytes(60),
        b"PK\x03\x04" + bytes(40),
        struct.pack("<i", 5),
        struct.pack("<ii", 1, 1 << 30),
        as_list({"a": (1, VALUES)})[:20],
        as_list({"a": (1, np.array([np.nan], np.float32))}),
        struct.pack("<ii", 1, 1) + b"a" + struct.pack("<ii", 1, 2**31 - 1),
    ],
)
def test_what_is_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="holds no importance matrix"):
        read_importance(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no importance matrix"):
        read_importance(tmp_path / "none")
