"""K without its constant, and with channel pairs of equal spread: what rows of K are stored without.

K of a KV head is, before its position is put in, a constant plus what the token says. In many models the
constant is the larger part by far (the bias of Qwen2's K; what the norm of K does in Gemma 3 and Qwen3), it
carries no information, and the noise of quantization grows with it. A context with a ``Centring`` stores
``(k - R_p c) / s`` instead of ``k``: ``c`` the constant, ``s`` one factor per pair of values that turn
together, ``R_p`` the rotary position. The attention kernel puts the constant's score back exactly
(native/centring.h).

Rows can only be read with the centring that they were written with. So each has an id, which stands in the
header of every state that a centred context saves (``quantize.state``); ``with_id`` finds it again.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import struct
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quantize.errors import StateError
from quantize.geometry import Geometry
from quantize.native.library import load
from quantize.rope import Rope, Ropes
from quantize.rotation import hadamard, rotation_k

Floats = NDArray[np.float32]

_MAGIC = b"STKC"
_VERSION = 1
_HEAD = struct.Struct("<4sHHI")  # magic, version, layers, bytes of the rest
_LAYER = struct.Struct("<HHHH")  # part, index, KV heads, head_dim
_DIGEST = 16


@dataclass(frozen=True, eq=False, slots=True)
class LayerCentring:
    """Of one layer."""

    centre: Floats
    """Shape (n_head_kv, head_dim): the constant, before the position is put in; 0 in pairs that keep
    theirs."""
    scale: Floats
    """Shape (n_head_kv, head_dim): positive, the same for both values of a pair."""
    whole: NDArray[np.int32]
    """Shape (n_head_kv,): rows of positions below this keep the constant. K of the first token, on which a
    model rests its attention, is often small: without a constant that it does not have it would be large."""


class DamagedError(Exception):
    """The bytes are no centring, or not one of this model."""


class Centring:
    """What the rows of K of a model are stored without. Immutable; equal content has the same id."""

    def __init__(
        self,
        geometry: Geometry,
        ropes: Ropes,
        layers: Mapping[tuple[int, int], LayerCentring],
        source: str = "",
    ) -> None:
        """
        Args:
            geometry: the model's caches.
            ropes: how each layer turns K.
            layers: by (part, index in the part). A layer that is missing is stored as it is.
            source: where it comes from, for people: ``bias``, ``text``.
        """
        self.geometry = geometry
        self.ropes = ropes
        self.layers = dict(layers)
        self.source = source
        self.id = self._id()
        """Not 0."""
        _known[id(self)] = self

    def _id(self) -> int:
        h = hashlib.blake2b(self.to_bytes()[_HEAD.size + _DIGEST :], digest_size=4)
        for part, index in sorted(self.layers):
            rope = self.ropes[part][index]
            about = rope.halves, rope.offset, self.hadamard(part)
            h.update(repr(about).encode() + np.asarray(rope.theta, np.float64).tobytes())
        return int.from_bytes(h.digest(), "little") or 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Centring) and self.id == other.id

    def __hash__(self) -> int:
        return self.id

    @property
    def n_bytes(self) -> int:
        """Bytes of the numbers that it keeps."""
        return sum(4 * layer.centre.size + len(layer.whole) for layer in self.layers.values())

    def hadamard(self, part: int) -> int:
        """Size of llama.cpp's rotation of a quantized K of this part, 0 for none."""
        dims = {h.head_dim_k for h in self.geometry.parts[part]}
        return rotation_k(True, dims, self.geometry.first.head_dim_k)

    def leading(self, part: int) -> int | None:
        """The first layer of a part that is centred: where its rows stand is asked once, there."""
        return min((index for p, index in self.layers if p == part), default=None)

    # ------------------------------------------------------------------ rows

    def rows(
        self,
        part: int,
        index: int,
        values: Floats,
        positions: NDArray[np.int32],
        *,
        rotated: bool,
        back: bool,
    ) -> None:
        """Rows of K of one layer become what is stored, or come back from it, in place.

        Args:
            values: contiguous, shape (rows, n_embd_k), with their positions in them.
            positions: of the rows, shape (rows,).
            rotated: whether the plain rows are turned by llama.cpp's Hadamard rotation, as in a quantized
                cache. Stored rows always are.
            back: from what is stored to plain rows.
        """
        number = self.geometry.number(part, index)
        if (part, index) not in self.layers:
            if not rotated and (size := self.hadamard(part)):
                hadamard(values.reshape(-1), size)
            return
        at = np.ascontiguousarray(positions, np.int32)
        if len(at) != len(values) or values.dtype != np.float32 or not values.flags.c_contiguous:
            raise ValueError(f"{len(at)} positions and rows of shape {values.shape} do not fit together")
        done = native().st_centring_rows(
            self._handle, number, values.ctypes.data, len(values), at.ctypes.data, rotated, back
        )
        assert done, "the layer was handed over"

    @functools.cached_property
    def _handle(self) -> int:
        """The same in the native library, which lives as long as this object or a context needs it."""
        library = native()
        handle = library.st_centring_new()
        if not handle:
            raise MemoryError("There is no memory for the constants of K.")
        weakref.finalize(self, library.st_centring_free, handle)
        for (part, index), layer in self.layers.items():
            heads = self.geometry.parts[part][index]
            first, second, theta = pairs(self.ropes[part][index], heads.head_dim_k)
            centre = np.ascontiguousarray(layer.centre, np.float32)
            scale = np.ascontiguousarray(layer.scale, np.float32)
            whole = np.ascontiguousarray(layer.whole, np.int32)
            flat = bool((scale == 1).all())
            done = library.st_centring_layer(
                handle,
                self.geometry.number(part, index),
                part,
                heads.n_head_kv,
                heads.head_dim_k,
                self.hadamard(part),
                len(first),
                first.ctypes.data,
                second.ctypes.data,
                theta.ctypes.data,
                centre.ctypes.data,
                None if flat else scale.ctypes.data,
                whole.ctypes.data,
            )
            if not done:
                raise ValueError(f"layer {index} of part {part} cannot be centred like this")
        return int(handle)

    # ------------------------------------------------------------------ contexts

    @property
    def n_layers(self) -> int:
        """Layers that are centred."""
        return len(self.layers)

    def __enter__(self) -> Self:
        """The next context that this process creates stores K so."""
        native().st_device_centring_next(self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        native().st_device_centring_next(None)

    # ------------------------------------------------------------------ bytes

    def to_bytes(self) -> bytes:
        """As a file holds it: half precision, which is exact because the values were rounded to it."""
        body = bytearray(self.source.encode()[:8].ljust(8, b"\0"))
        for (part, index), layer in sorted(self.layers.items()):
            body += _LAYER.pack(part, index, *layer.centre.shape)
            body += layer.centre.astype("<f2").tobytes() + layer.scale.astype("<f2").tobytes()
            body += layer.whole.astype(np.uint8).tobytes()
        digest = hashlib.blake2b(bytes(body), digest_size=_DIGEST).digest()
        return _HEAD.pack(_MAGIC, _VERSION, len(self.layers), len(body)) + digest + bytes(body)

    @classmethod
    def from_bytes(cls, data: bytes, geometry: Geometry, ropes: Ropes) -> Centring:
        """Read it again.

        Raises:
            DamagedError: if the bytes are damaged, of another version or of a model of another shape.
        """
        try:
            magic, version, n_layers, size = _HEAD.unpack_from(data)
        except struct.error as error:
            raise DamagedError("it ends too early") from error
        digest, body = data[_HEAD.size : _HEAD.size + _DIGEST], data[_HEAD.size + _DIGEST :]
        if magic != _MAGIC or version != _VERSION or len(body) != size:
            raise DamagedError("it is of another kind or version")
        if hashlib.blake2b(body, digest_size=_DIGEST).digest() != digest:
            raise DamagedError("its bytes have changed")
        try:
            layers = cls._layers(body, n_layers, geometry)
        except (struct.error, ValueError) as error:  # the number of layers is not in the digest
            raise DamagedError("it ends too early") from error
        source = body[:8].rstrip(b"\0").decode("ascii", "replace")
        return cls(geometry, ropes, layers, source)

    @staticmethod
    def _layers(body: bytes, n_layers: int, geometry: Geometry) -> dict[tuple[int, int], LayerCentring]:
        layers: dict[tuple[int, int], LayerCentring] = {}
        at = 8
        for _ in range(n_layers):
            part, index, n_head_kv, head_dim = _LAYER.unpack_from(body, at)
            at += _LAYER.size
            if part >= len(geometry.parts) or index >= len(geometry.parts[part]):
                raise DamagedError("it is of another model")
            heads = geometry.parts[part][index]
            if (heads.n_head_kv, heads.head_dim_k) != (n_head_kv, head_dim):
                raise DamagedError("it is of another model")
            n = n_head_kv * head_dim
            values = np.frombuffer(body, "<f2", 2 * n, at).astype(np.float32).reshape(2, n_head_kv, head_dim)
            at += 4 * n
            whole = np.frombuffer(body, np.uint8, n_head_kv, at).astype(np.int32)
            at += n_head_kv
            layers[part, index] = LayerCentring(values[0], values[1], whole)
        if at != len(body):
            raise DamagedError("it has bytes left over")
        return layers


def rounded(centre: Floats, scale: Floats, whole: NDArray[np.int32]) -> LayerCentring:
    """A layer whose numbers are exact in half precision, as they are stored."""
    limit = float(np.finfo(np.float16).max)
    f16 = np.clip(centre, -limit, limit).astype(np.float16).astype(np.float32)
    return LayerCentring(f16, np.maximum(scale, 1e-4).astype(np.float16).astype(np.float32), whole)


def pairs(rope: Rope, head_dim: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Which values of a head make up a pair, and its radians per position: three arrays of head_dim / 2.

    Values that do not turn are paired with their neighbours, at 0 radians.
    """
    n = len(rope.theta)
    starts = [rope.offset + (j if rope.halves else 2 * j) for j in range(n)]
    step = n if rope.halves else 1
    turning = {value for start in starts for value in (start, start + step)}
    rest = [value for value in range(head_dim) if value not in turning]
    first = np.array([*starts, *rest[0::2]], np.int32)
    second = np.array([*(start + step for start in starts), *rest[1::2]], np.int32)
    theta = np.array([*rope.theta, *[0.0] * (len(rest) // 2)], np.float64)
    return first, second, theta


@dataclass(frozen=True, slots=True)
class Recentring:
    """K of one layer from what it lacks to what it is to lack."""

    part: int
    index: int
    before: Centring | None
    after: Centring | None

    def apply(
        self, values: Floats, positions: NDArray[np.int32], *, source_turned: bool, target_turned: bool
    ) -> None:
        """Change rows in place.

        Args:
            values: contiguous, shape (rows, n_embd_k).
            positions: of the rows.
            source_turned: whether the rows are turned by llama.cpp's Hadamard rotation if they are whole.
            target_turned: whether they are to be if they become whole.
        """
        if self.before is not None:
            rotated = target_turned and self.after is None
            self.before.rows(self.part, self.index, values, positions, rotated=rotated, back=True)
        if self.after is not None:
            rotated = source_turned and self.before is None
            self.after.rows(self.part, self.index, values, positions, rotated=rotated, back=False)


# ---------------------------------------------------------------- found by their id

# by the object: of two that are equal, either may go first
_known: weakref.WeakValueDictionary[int, Centring] = weakref.WeakValueDictionary()
_finders: list[Callable[[int], Centring | None]] = []
LOST = "What this cache's K was stored without is no longer there: the model was calibrated anew since then."


def with_id(number: int) -> Centring | None:
    """The centring of rows that were written with this id; None for 0, rows that are whole.

    Raises:
        StateError: if it is not known any more: the rows cannot be read.
    """
    if number == 0:
        return None
    for known in list(_known.values()):
        if known.id == number:
            return known
    for find in _finders:
        found = find(number)
        if found is not None and found.id == number:  # a finder may give the next best
            return found
    raise StateError(LOST, "The conversation is read again from its text.")


def is_known(number: int) -> bool:
    """Whether ``with_id`` finds it, so that rows that were written with it can be read."""
    try:
        with_id(number)
    except StateError:
        return False
    return True


def find_with(finder: Callable[[int], Centring | None]) -> None:
    """Ask ``finder`` for ids that this process does not know, in place of the one before."""
    _finders[:] = [finder]


@functools.cache
def native() -> Any:
    """The native library, whose functions on constants of K are declared."""
    library = load()[0]
    if library is None:
        raise RuntimeError("the native library is not there")
    p, i32, i64, flag, size = (
        ctypes.c_void_p,
        ctypes.c_int32,
        ctypes.c_int64,
        ctypes.c_bool,
        ctypes.c_size_t,
    )
    for name, result, arguments in (
        ("st_centring_new", p, ()),
        ("st_centring_layer", flag, (p, i32, i32, i32, i32, i32, i32, p, p, p, p, p, p)),
        ("st_centring_free", None, (p,)),
        ("st_centring_rows", flag, (p, i32, p, i64, p, flag, flag)),
        ("st_device_centring_next", None, (p,)),
        ("st_device_centred_layers", i32, (i64,)),
        ("st_device_places_load", flag, (i64, i32, i32, i32, p, p, size)),
        ("st_device_places_bytes", i64, (i64,)),
        ("st_device_centre_lost", flag, (i64,)),
        ("st_device_last", i64, ()),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
