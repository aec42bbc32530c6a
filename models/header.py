"""The header of a GGUF file: its metadata and the list of its tensors.

An own reader, because the planner must judge files that the ``gguf`` package rejects (tensor
types from 42 on), must not trust them (every count, length and offset is checked before anything
is allocated from it), must be fast (a vocabulary of half a million strings is walked over, not
built), and must work on the first megabytes of a file that is still on a server.

Format: the GGUF specification in ggml's repository, versions 2 and 3, little-endian. Where
llama.cpp is stricter than the specification, so is this reader.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.byte_source import ByteSource, FileSource
from models.gguf_cursor import Cursor, Skipped, Value, shown
from models.tensor_types import TENSOR_TYPES, TensorType, type_name
from quantize.errors import ModelFileError

__all__ = ["Header", "Skipped", "Tensor", "Value", "parse_header", "read_header"]

MAX_KEYS = 65_536
MAX_TENSORS = 65_536
MAX_KEY_BYTES = 65_535
MAX_NAME_BYTES = 63
MAX_DIMS = 4

_LEAST_KEY = 8 + 1 + 4 + 1
_LEAST_TENSOR = 8 + 4 + 4 + 8

MXFP4 = 39
LEGACY_Q2_0 = TensorType(42, "q2_0", 128, 34)
"""The first ``Q2_0`` files of the Ternary-Bonsai models: the same id, blocks of another size."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the list."""

    name: str
    shape: tuple[int, ...]
    """ggml's order: the length of a row first."""
    type_id: int
    offset: int
    """From the start of the data."""
    n_bytes: int
    """0 if the engine does not know the type."""
    part: int = 0
    """Which file of a split model holds it."""

    @property
    def n_elements(self) -> int:
        """Values in the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself."""

    name: str
    """Of the file, for messages."""
    version: int
    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]
    data_offset: int
    """Where the tensors' data starts; the header ends before it."""
    alignment: int
    file_bytes: int
    """Length of the file: what it must be according to the list of tensors, or what it is if that is more."""
    by_name: dict[str, Tensor] = field(repr=False, default_factory=dict)
    n_parts: int = 1
    """Files whose tensors are listed here."""
    spans: dict[str, tuple[int, int]] = field(repr=False, default_factory=dict)
    """Where each key with its value begins and ends in the file."""

    @property
    def architecture(self) -> str:
        """``general.architecture``."""
        return str(self.metadata["general.architecture"])

    def get(self, key: str) -> Value | None:
        """The value of a key below the architecture's prefix."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def text(self, key: str, default: str = "") -> str:
        """A string by its full name."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else default

    def integer(self, key: str, default: int | None = None, *, top: int = 2**32 - 1) -> int:
        """A whole number of 0 to ``top`` below the architecture's prefix.

        Raises:
            ModelFileError: if it is missing and there is no default, or is something else.
        """
        value = self.get(key)
        if value is None:
            if default is None:
                raise ModelFileError(f"{self.name} does not say its {self.architecture}.{key}.")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= top:
            shown = "a list" if isinstance(value, list | Skipped) else repr(value)[:40]
            raise ModelFileError(f"{self.name} gives {shown} for {self.architecture}.{key}.")
        return value

    def per_layer(self, key: str, n_layer: int, default: int | None = None) -> list[int]:
        """A number for each layer: the file holds a list, or one number for all.

        Raises:
            ModelFileError: if it is missing and there is no default, or is something else.
        """
        value = self.get(key)
        if isinstance(value, list) and len(value) == n_layer:
            numbers = [v for v in value if isinstance(v, int) and 0 <= v < 2**32]
            if len(numbers) == n_layer:
                return [int(v) for v in numbers]
        if isinstance(value, list | Skipped):
            raise ModelFileError(
                f"{self.name} gives a list for {self.architecture}.{key} that does not fit {n_layer} layers."
            )
        if isinstance(value, bool):
            return [int(value)] * n_layer
        return [self.integer(key, default)] * n_layer

    def length(self, key: str) -> int:
        """Items of a list by its full name, 0 if there is none."""
        value = self.metadata.get(key)
        if isinstance(value, Skipped):
            return value.length
        return len(value) if isinstance(value, list) else 0

    @property
    def n_vocab(self) -> int:
        """Tokens of the vocabulary, 0 if the file does not say."""
        return self.length("tokenizer.ggml.tokens") or self.integer("vocab_size", 0)

    @property
    def split(self) -> tuple[int, int]:
        """Number of this part (from 0) and count of parts; (0, 1) for a whole file."""
        number, count = self.metadata.get("split.no", 0), self.metadata.get("split.count", 1)
        if isinstance(number, int) and isinstance(count, int) and 0 <= number < max(count, 1) <= 65_535:
            return int(number), max(int(count), 1)
        raise ModelFileError(f"{self.name} has contradictory numbers of its parts.")

    def type_bytes(self) -> dict[str, int]:
        """Bytes per tensor type, largest first."""
        sums: dict[str, int] = {}
        for tensor in self.tensors:
            kind = type_name(tensor.type_id)
            sums[kind] = sums.get(kind, 0) + tensor.n_bytes
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


def read_header(path: Path | str) -> Header:
    """The header of a local file (of one part, if the model is split).

    Raises:
        ModelFileError: one sentence about why the file cannot be read.
    """
    with FileSource(Path(path)) as source:
        return parse_header(source)


def parse_header(source: ByteSource) -> Header:
    """The header at the beginning of ``source``.

    Raises:
        ModelFileError: if it is damaged, cut off, or not for this engine.
    """
    cursor = Cursor(source)
    version = _preamble(cursor)
    n_tensors, n_keys = cursor.u64(), cursor.u64()
    if n_tensors > MAX_TENSORS or n_keys > MAX_KEYS:
        raise ModelFileError(
            f"{source.name} claims {n_tensors:,} tensors and {n_keys:,} keys, more than any real model has."
        )
    cursor.check_room(_LEAST_TENSOR * n_tensors + _LEAST_KEY * n_keys)
    metadata: dict[str, Value] = {}
    spans: dict[str, tuple[int, int]] = {}
    for _ in range(n_keys):
        start = cursor.position
        key = cursor.string(MAX_KEY_BYTES, "a key")
        if not key:
            raise ModelFileError(f"{source.name} has a key without a name.")
        if key in metadata:
            raise ModelFileError(f"{source.name} has the key {shown(key)} twice.")
        metadata[key] = cursor.value(key)
        spans[key] = start, cursor.position
    if not isinstance(metadata.get("general.architecture"), str):
        raise ModelFileError(
            f"{source.name} does not name its architecture.", "It may not be a language model."
        )
    alignment = _alignment(metadata, source.name)
    tensors = tuple(_tensor(cursor) for _ in range(n_tensors))
    by_name = {t.name: t for t in tensors}
    if len(by_name) != n_tensors:
        raise ModelFileError(f"{source.name} lists a tensor twice.")
    data_offset = _round_up(cursor.position, alignment) if tensors else cursor.position
    found = Header(source.name, version, metadata, tensors, data_offset, alignment, 0, by_name, spans=spans)
    return replace(found, file_bytes=_check_data(found, source.size))


def _preamble(cursor: Cursor) -> int:
    """Read magic and version; the version."""
    name = cursor.name
    if cursor.source.size == 0:
        raise ModelFileError(f"{name} is empty.", "Download it again.")
    magic = cursor.take(4)
    if magic != b"GGUF":
        old = magic in (b"lmgg", b"tjgg", b"fmgg", b"algg")
        raise ModelFileError(
            f"{name} is not a GGUF file.",
            "It is of a format from before 2023: look for a GGUF version of the model."
            if old
            else "Stretch reads models in the GGUF format.",
        )
    version = cursor.u32()
    if version and version & 0xFFFF == 0:
        raise ModelFileError(f"{name} is a big-endian GGUF file, which this machine cannot run.")
    if version not in (2, 3):
        raise ModelFileError(f"{name} is of GGUF version {version}; this engine reads versions 2 and 3.")
    return version


def _alignment(metadata: dict[str, Value], name: str) -> int:
    """``general.alignment``."""
    value = metadata.get("general.alignment", 32)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or value & (value - 1):
        raise ModelFileError(f"{name} has an alignment that is not a power of two.")
    return value


def _tensor(cursor: Cursor) -> Tensor:
    """Read one entry of the list of tensors."""
    name = cursor.string(MAX_NAME_BYTES, "a tensor's name")
    n_dims = cursor.u32()
    if n_dims > MAX_DIMS:
        raise ModelFileError(f"{cursor.name} has a tensor of {n_dims:,} dimensions.")
    shape = tuple(cursor.u64() for _ in range(n_dims))
    type_id, offset = cursor.u32(), cursor.u64()
    n = math.prod(shape)
    if n >= 2**63 or max(shape, default=0) >= 2**63:
        raise ModelFileError(f"{cursor.name} has a tensor with more values than can be counted.")
    known = TENSOR_TYPES.get(type_id)
    if known is None:
        return Tensor(name, shape, type_id, offset, 0)
    row = shape[0] if shape else 1
    if row % known.block_size:
        raise ModelFileError(
            f"{cursor.name} has a tensor of type {known.name} with rows of {row:,} values, "
            f"which are no whole blocks of {known.block_size}."
        )
    return Tensor(name, shape, type_id, offset, n // known.block_size * known.type_size)


def _check_data(found: Header, size: int | None) -> int:
    """Check that the tensors lie one after the other inside the file; bytes of the whole file.

    llama.cpp demands this order too. Behind a tensor of an unknown type nothing can be checked.
    """
    ends = _ends(found, {})
    if ends is None:
        raise ModelFileError(*_misplaced(found))
    if ends < 0:
        return size or 0
    least = found.data_offset + ends
    if size is not None and size < least:
        if _is_legacy_q2_0(found, size):
            raise ModelFileError(*_misplaced(found))
        raise ModelFileError(
            f"{found.name} is cut off: it has {size:,} of {least:,} bytes.", "Download it again."
        )
    return least if size is None else size


def _ends(found: Header, sizes: dict[int, TensorType]) -> int | None:
    """Bytes of the data up to the end of the last tensor (the padding behind it may be missing).

    Args:
        sizes: block sizes to assume instead of llama.cpp's, by type id.

    Returns:
        None if a tensor is not where the one before it ends, -1 if the size of one is not known.
    """
    place = end = 0
    for tensor in found.tensors:
        if tensor.offset != place:
            return None
        other = sizes.get(tensor.type_id)
        if other is None and tensor.type_id not in TENSOR_TYPES:
            return -1
        n_bytes = tensor.n_elements // other.block_size * other.type_size if other else tensor.n_bytes
        end = place + n_bytes
        place += _round_up(n_bytes, found.alignment)
    return end


def _is_legacy_q2_0(found: Header, size: int | None) -> bool:
    """Whether everything is in its place if q2_0 has the blocks of PrismML's first files."""
    if not any(t.type_id == LEGACY_Q2_0.id for t in found.tensors):
        return False
    end = _ends(found, {LEGACY_Q2_0.id: LEGACY_Q2_0})
    return end is not None and end >= 0 and (size is None or size >= found.data_offset + end)


def _misplaced(found: Header) -> tuple[str, str]:
    """Message and hint for a tensor that is not where the ones before it end."""
    if _is_legacy_q2_0(found, None):
        return (
            f"{found.name} holds q2_0 weights in blocks of 128 values; llama.cpp's have 64, so it would read "
            "noise.",
            "Look for a file of the same model whose name ends in Q2_0_g64.",
        )
    if found.architecture.startswith("bitnet") and any(t.type_id == MXFP4 for t in found.tensors):
        return (
            f"{found.name} holds tl2 weights, which only bitnet.cpp reads; llama.cpp has another type there.",
            "Look for a file of the model whose name ends in TQ2_0 or TQ1_0.",
        )
    return (
        f"{found.name} says that a tensor starts where another one lies, or beyond it.",
        "Download it again.",
    )


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step
