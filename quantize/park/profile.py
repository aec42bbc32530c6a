"""What was calibrated for one model: the bases that its codecs use, and what each of their steps costs.

Kept in a file of named arrays: magic, u32 length of a JSON header, header, arrays, digest. Nothing in it is
executed, and everything is checked against the digest and the model before it is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantize.errors import StateError
from quantize.park.plain import SIDES, Frame, Side

MAGIC = b"STRETCHP"
VERSION = 2
MAX_HEADER = 1 << 20
MAX_BYTES = 4 << 30
_DIGEST = 16
_DTYPES = {"f2": np.float16, "f4": np.float32, "f8": np.float64, "i4": np.int32, "i8": np.int64}


@dataclass(frozen=True, slots=True)
class Point:
    """What one step of a codec's quantizer was measured to cost."""

    step: float
    kld: float
    """Mean KLD of the tokens that follow."""
    ratio: float
    """Bytes of an f16 cache by bytes of the file, everything counted."""


@dataclass(frozen=True)
class Group:
    """Rows that are coded as one vector: K and V of some layers of one part, one behind the other."""

    part: int
    members: tuple[tuple[int, Side], ...]

    @property
    def layers(self) -> tuple[int, ...]:
        """Whose rows are in it."""
        return tuple(dict.fromkeys(layer for layer, _ in self.members))

    def slices(self, frame: Frame) -> list[tuple[int, Side, slice]]:
        """Where each member stands in the vector."""
        found, at = [], 0
        for layer, side in self.members:
            width = frame.width(self.part, layer, side)
            found.append((layer, side, slice(at, at + width)))
            at += width
        return found

    def width(self, frame: Frame) -> int:
        """Values of the vector."""
        return sum(frame.width(self.part, layer, side) for layer, side in self.members)


def groups(frame: Frame, most: int, layers_together: int) -> list[Group]:
    """All rows of a model in vectors of at most ``most`` values and so many layers.

    With 0 layers together K and V are apart as well. A row that is wider alone is a group of its own.
    """
    found: list[Group] = []
    for p, layers in enumerate(frame.geometry.parts):
        members: list[tuple[int, Side]] = []
        for layer in range(len(layers)):
            for side in SIDES:
                if not frame.width(p, layer, side):
                    continue
                width = sum(frame.width(p, *m) for m in members) + frame.width(p, layer, side)
                apart = not layers_together or layer - members[0][0] >= layers_together if members else False
                if members and (apart or width > most):
                    found.append(Group(p, tuple(members)))
                    members = []
                members.append((layer, side))
        if members:
            found.append(Group(p, tuple(members)))
    return found


@dataclass
class Profile:
    """The result of a calibration."""

    fingerprint: str
    """Of the model."""
    arrays: dict[str, NDArray[Any]]
    points: dict[str, list[Point]] = field(default_factory=dict)
    """By codec, the finest step first."""
    n_tokens: int = 0
    """Tokens that it was calibrated with."""
    floor: float = 0.0
    """KLD of a change that is none: the model's own rounding, which is in every point."""
    digest: str = ""
    """Of the arrays: a file that was parked with others cannot be read."""

    def seal(self) -> None:
        """Work the digest out."""
        h = hashlib.blake2b(digest_size=_DIGEST)
        for name in sorted(self.arrays):
            h.update(name.encode())
            h.update(np.ascontiguousarray(self.arrays[name]).tobytes())
        self.digest = h.hexdigest()

    def step_for(self, codec: str, kld: float) -> Point | None:
        """The coarsest step of a codec that keeps within ``kld`` above the floor, between the measured ones
        in their logarithms; None if nothing was measured that does."""
        points = self.points.get(codec, [])
        kld += self.floor
        best: Point | None = None
        for i, point in enumerate(points):
            if point.kld <= kld:
                best = point
                after = points[i + 1] if i + 1 < len(points) else None
                if after is not None and after.kld > kld > point.kld > 0:
                    t = math.log(kld / point.kld) / math.log(after.kld / point.kld)
                    step = point.step * (after.step / point.step) ** t
                    ratio = point.ratio * (after.ratio / point.ratio) ** t
                    best = Point(step, kld, ratio)
        return best

    def save(self, path: Path) -> None:
        """Write it, replacing what was there in one go.

        Raises:
            OSError: if that cannot be done.
        """
        self.seal()
        points = {k: [[p.step, p.kld, p.ratio] for p in v] for k, v in self.points.items()}
        write_arrays(
            path,
            {
                "fingerprint": self.fingerprint,
                "points": points,
                "n_tokens": self.n_tokens,
                "floor": self.floor,
                "digest": self.digest,
            },
            self.arrays,
        )

    @classmethod
    def load(cls, path: Path, fingerprint: str) -> Profile:
        """Read what ``save`` wrote.

        Raises:
            StateError: if it is damaged, of another version or of another model.
            OSError: if it cannot be read.
        """
        header, arrays = read_arrays(path)
        try:
            if header["fingerprint"] != fingerprint:
                raise StateError("The calibration belongs to another model.")
            points = {
                str(k): [Point(float(a), float(b), float(c)) for a, b, c in v]
                for k, v in header["points"].items()
            }
            floor, digest = float(header["floor"]), str(header["digest"])
            return cls(fingerprint, arrays, points, int(header["n_tokens"]), floor, digest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateError("The calibration is damaged.") from error


def write_arrays(path: Path, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays into a file that only its owner can read, in one go.

    Raises:
        OSError: if that cannot be done.
    """
    listed = [[name, a.dtype.str[1:], list(a.shape)] for name, a in arrays.items()]
    header = json.dumps({**about, "version": VERSION, "arrays": listed}).encode()
    h = hashlib.blake2b(digest_size=_DIGEST)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in (MAGIC, struct.pack("<I", len(header)), header):
                h.update(piece)
                file.write(piece)
            for a in arrays.values():
                data = np.ascontiguousarray(a).data.cast("B") if a.size else b""
                h.update(data)
                file.write(data)
            file.write(h.digest())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What ``write_arrays`` wrote.

    Raises:
        StateError: if it is damaged or of another version.
        OSError: if it cannot be read.
    """
    damaged = StateError("The calibration is damaged.", "Calibrate the model again.")
    if not len(MAGIC) + 4 + _DIGEST <= path.stat().st_size <= MAX_BYTES:
        raise damaged
    data = path.read_bytes()
    if data[:8] != MAGIC or hashlib.blake2b(data[:-_DIGEST], digest_size=_DIGEST).digest() != data[-_DIGEST:]:
        raise damaged
    (length,) = struct.unpack_from("<I", data, 8)
    if length > min(MAX_HEADER, len(data)):
        raise damaged
    try:
        header = json.loads(data[12 : 12 + length])
        if header["version"] != VERSION:
            raise StateError("The calibration is of another version.", "Calibrate the model again.")
        arrays: dict[str, NDArray[Any]] = {}
        at = 12 + length
        for name, dtype, shape in header["arrays"]:
            kind = np.dtype(_DTYPES[dtype])
            size = math.prod(int(n) for n in shape) * kind.itemsize
            if size < 0 or at + size > len(data) - _DIGEST:
                raise damaged
            arrays[str(name)] = np.frombuffer(data, kind, size // kind.itemsize, at).reshape(shape)
            at += size
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged from error
    return header, arrays
