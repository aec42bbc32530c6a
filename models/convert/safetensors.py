"""Checkpoints in the safetensors format: one file, or several with an index.

Format: https://github.com/huggingface/safetensors: the length of a JSON header (u64), the header, the
data. An own reader, since only parts of a tensor are read at a time and nothing in the file may be trusted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.byte_source import FileSource
from quantize.errors import ModelFileError

MAX_HEADER_BYTES = 100_000_000
"""The limit of the format's own reader."""
MAX_TENSORS = 100_000
MAX_DIMS = 8
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a checkpoint."""

    name: str
    dtype: str
    """As the format names it: ``BF16``, ``U8``, ..."""
    shape: tuple[int, ...]
    start: int
    """Of its data in the file."""
    part: int
    """Which file of the checkpoint holds it."""

    @property
    def n_elements(self) -> int:
        """Values."""
        return math.prod(self.shape)

    @property
    def row_values(self) -> int:
        """Values of one row, the last dimension."""
        return self.shape[-1] if self.shape else 1


class Checkpoint:
    """All files of a checkpoint, open for reading."""

    def __init__(self, folder: Path) -> None:
        """Read the headers.

        Args:
            folder: holds ``model.safetensors``, or its parts and their index.

        Raises:
            ModelFileError: if there is none, or it is damaged.
        """
        self._stack = ExitStack()
        self.entries: dict[str, Entry] = {}
        try:
            self._files = [self._stack.enter_context(FileSource(path)) for path in _parts(folder)]
            for part, file in enumerate(self._files):
                for entry in parse_header(file, part):
                    if entry.name in self.entries:
                        raise ModelFileError(f"Two parts of {folder.name} hold the same tensor.")
                    self.entries[entry.name] = entry
        except BaseException:
            self.close()
            raise

    def rows(self, name: str, first: int, count: int) -> NDArray[Any]:
        """Rows of a tensor, counted over all its leading dimensions; shape (count, row_values).

        Floats come as float32 (float64 is rounded), bytes and whole numbers as they are.

        Raises:
            ModelFileError: if the file ends before them.
        """
        entry = self.entries[name]
        item = _DTYPES[entry.dtype]
        n = count * entry.row_values
        data = self._read(entry.part, entry.start + first * entry.row_values * item, n * item)
        if entry.dtype == "BF16":
            values: NDArray[Any] = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif entry.dtype in _FLOATS:
            values = np.frombuffer(data, np.dtype(_FLOATS[entry.dtype]).newbyteorder("<")).astype(np.float32)
        else:
            kind = "u" if entry.dtype in ("U8", "BOOL") else "i"
            values = np.frombuffer(data, f"<{kind}{item}")
        return values.reshape(count, entry.row_values)

    def _read(self, part: int, start: int, n: int) -> bytes:
        pieces, left = [], n
        while left:
            piece = self._files[part].read_at(start + n - left, left)
            if not piece:
                raise ModelFileError(f"{self._files[part].name} is cut off.", "Download it again.")
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def parse_header(file: FileSource, part: int = 0) -> Iterator[Entry]:
    """The tensors of one file.

    Raises:
        ModelFileError: if it is damaged.
    """
    size = file.size or 0
    head = file.read_at(0, 8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > min(MAX_HEADER_BYTES, size - 8):
        raise ModelFileError(f"{file.name} is not a safetensors file, or cut off.", "Download it again.")
    header = _json(file.read_at(8, length), file.name)
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise _damaged(file.name)
    header.pop("__metadata__", None)
    place = 0
    for name, start, end, dtype, shape in sorted(
        (_entry(name, said, file.name) for name, said in header.items()), key=lambda e: e[1:3]
    ):
        n_bytes = math.prod(shape) * _DTYPES[dtype]
        if start != place or end - start != n_bytes or 8 + length + end > size:
            raise _damaged(file.name)
        place = end
        yield Entry(name, dtype, shape, 8 + length + start, part)


def _entry(name: str, said: Any, file: str) -> tuple[str, int, int, str, tuple[int, ...]]:
    try:
        dtype, shape, (start, end) = said["dtype"], said["shape"], said["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise _damaged(file) from None
    if not isinstance(shape, list) or len(shape) > MAX_DIMS:
        raise _damaged(file)
    if not all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 48 for n in (*shape, start, end)
    ):
        raise _damaged(file)
    if dtype not in _DTYPES:
        raise ModelFileError(f"{file} holds a tensor of type {str(dtype)[:40]!r}, which is not supported.")
    return name, start, end, dtype, tuple(shape)


def _parts(folder: Path) -> list[Path]:
    """The files of a checkpoint."""
    if not folder.is_dir():
        raise ModelFileError(f"There is no directory {folder}.", "Give the directory of a checkpoint.")
    if not (folder / INDEX).exists():
        if not (folder / SINGLE).exists():
            raise ModelFileError(
                f"{folder} holds no {SINGLE}.", "Download all files of the model's repository on the hub."
            )
        return [folder / SINGLE]
    index = read_json(folder / INDEX)
    names = index.get("weight_map")
    files = sorted(set(names.values())) if isinstance(names, dict) and _texts(names.values()) else []
    if (
        not files
        or len(files) > 1000
        or any(Path(name).name != name or name in (".", "..") for name in files)
    ):
        raise _damaged(INDEX)
    for name in files:
        if not (folder / name).exists():
            raise ModelFileError(f"A part of the checkpoint is missing: {name}.", "Download it.")
    return [folder / name for name in files]


def _texts(values: Any) -> bool:
    return all(isinstance(v, str) and v for v in values)


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
        ModelFileError: if there is none.
    """
    try:
        if path.stat().st_size > MAX_HEADER_BYTES:
            raise _damaged(path.name)
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"There is no {path.name}.", "Download all files of the model.") from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}.") from None
    found = _json(data, path.name)
    if not isinstance(found, dict):
        raise _damaged(path.name)
    return found


def _json(data: bytes, name: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name twice")
        return found

    try:
        return json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise _damaged(name) from None


def _damaged(name: str) -> ModelFileError:
    return ModelFileError(f"{name} is damaged.", "Download it again.")
