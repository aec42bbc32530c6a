"""The formats tq4, tq3 and tq2 in numpy: the reference that the C code is compared with, byte for byte.

A block holds 128 or 64 rotated values. As in TurboQuant (arXiv 2504.19874, algorithm `mse`) the
block is scaled and each value is replaced by a level of a codebook for the normal distribution.
Three things are added, each explained in docs/turboquant.md with its measured gain:

- Trellis coding (Ungerboeck 1982; Marcellin and Fischer 1990). A value of ``b`` bits chooses from a
  codebook of 2^(b+1) or 2^(b+2) levels. One of its bits, the path bit u, runs through a shift register
  of six bits, and the register decides which subset of the codebook the other bits index:

      hi = u[t] ^ u[t-1] ^ u[t-6]      lo = u[t-2] ^ u[t-4]      (Ungerboeck's 64-state code 103, 024)

  Choosing the path is a Viterbi search; reading it back is two exclusive-ors of shifted words.
- Before the search the block is scaled by its root mean square and its largest value together, so
  that the codebook reaches the largest value without being stretched for blocks that have none.
- The stored scale is the one with the least squared error for the levels that were chosen, and the
  six bits of the register before the first value are stored in the low bits of its mantissa.

Layout of a block of B values, ``b`` bits each (little-endian):

    u16        scale: f16 with 5 bits of mantissa; bits 0-4 and 15 hold u[-1] .. u[-6]
    B/8 bytes  path bits
    B/8 bytes  tq2: the point bit; tq4: the table bit; not in tq3 (there the path bit chooses the table)
    B/4 bytes  tq3, tq4: two point bits

A plane of B/8 bytes is read as B/4 bytes with four bits each at the even positions: first the even
bits of every byte, then the odd ones. Byte j, field f (bits 2f and 2f+1) belongs to value
v = (B/4) f + j, so that unpacking gives whole vectors of consecutive values; in the order of the
trellis it is step t = 4 j + f: a step is a shift by two bits in a 64-bit word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize.turboquant.levels import LEVELS

MEMORY = 6
"""Bits of the shift register; 2^6 states."""
HI_TAPS = (0, 1, 6)
LO_TAPS = (2, 4)
SCALE_UNIT = 1.0 / 64.0
"""value = scale * SCALE_UNIT * level."""

_STATES = 1 << MEMORY
_RENORMALIZE = 16  # steps between two subtractions of the smallest cost; keeps costs below 2^15
_MAX_METRIC = 1023
_MAX_DISTANCE = 181  # the square stays below 2^15
_LANES = 16  # sums are formed in this many partial sums, which are then added pairwise


@dataclass(frozen=True, slots=True)
class TrellisFormat:
    """One row format: its bits and its block size."""

    name: str
    bits: int
    block: int

    @property
    def type_size(self) -> int:
        """Bytes per block."""
        return 2 + self.bits * self.block // 8

    @property
    def levels(self) -> NDArray[np.int8]:
        """The codebook, shape (2, 4, 4): table, point, subset."""
        return LEVELS[self.bits].levels

    @property
    def by_path(self) -> bool:
        """Whether the path bit itself chooses among more levels (2 and 3 bits)."""
        return self.bits < 4


FORMATS = {
    (name, block): TrellisFormat(name, bits, block)
    for name, bits in (("tq4", 4), ("tq3", 3), ("tq2", 2))
    for block in (128, 64)
}


# ------------------------------------------------------------------ the trellis


def _parity(bits: NDArray[np.int64], taps: tuple[int, ...]) -> NDArray[np.int64]:
    out = np.zeros_like(bits)
    for tap in taps:
        out ^= bits >> tap & 1
    return out


def subsets() -> NDArray[np.int64]:
    """Subset 0..3 of each window of seven path bits (newest in bit 0), shape (128,)."""
    window = np.arange(2 * _STATES)
    subset: NDArray[np.int64] = 2 * _parity(window, HI_TAPS) + _parity(window, LO_TAPS)
    return subset


def candidates(fmt: TrellisFormat) -> NDArray[np.int64]:
    """Levels that a value may take in each class, shape (classes, points).

    A class is a subset, or for `by_path` formats 4 * path bit + subset.
    """
    table = fmt.levels.astype(np.int64)
    by_class: NDArray[np.int64]
    if fmt.bits == 2:  # the point index is path bit * 2 + point bit
        by_class = table[0].reshape(2, 2, 4).transpose(0, 2, 1).reshape(8, 2)
    elif fmt.bits == 3:
        by_class = table.transpose(0, 2, 1).reshape(8, 4)
    else:
        by_class = table.reshape(8, 4).T
    return by_class


def viterbi(metrics: NDArray[np.int32], by_path: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cheapest path through the trellis.

    Args:
        metrics: cost of each class at each step, shape (n, steps, classes).
        by_path: classes are 4 * path bit + subset instead of the subset alone.

    Returns:
        The window of seven path bits at each step, shape (n, steps), and the state before the first.
    """
    n, steps, _ = metrics.shape
    window = np.arange(2 * _STATES)
    kind = subsets() + (4 * (window & 1) if by_path else 0)
    state = np.arange(_STATES)
    one, other = state >> 1, state >> 1 | _STATES // 2
    cost = np.zeros((n, _STATES), np.int32)
    chose_other = np.empty((steps, n, _STATES), np.bool_)
    for t in range(steps):
        if t and t % _RENORMALIZE == 0:
            cost -= cost.min(1, keepdims=True)
        a = cost[:, one] + metrics[:, t, kind[state]]
        b = cost[:, other] + metrics[:, t, kind[state | _STATES]]
        chose_other[t] = b < a
        cost = np.minimum(a, b)
    here = cost.argmin(1)
    rows = np.arange(n)
    windows = np.empty((n, steps), np.int64)
    for t in range(steps - 1, -1, -1):
        top = chose_other[t, rows, here].astype(np.int64)
        windows[:, t] = top << MEMORY | here
        here = here >> 1 | top << (MEMORY - 1)
    return windows, here


# ------------------------------------------------------------------ packing


def _steps_of_values(block: int) -> NDArray[np.int64]:
    """Step of the trellis at which each value is coded, shape (block,)."""
    field, byte = np.divmod(np.arange(block), block // 4)
    return 4 * byte + field


def _pack(fields: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """Values (n, block) of ``width`` bits (1 or 2) into bytes."""
    n, block = fields.shape
    by_field = fields.reshape(n, 4, block // 4)
    packed = by_field[:, 0] | by_field[:, 1] << 2 | by_field[:, 2] << 4 | by_field[:, 3] << 6
    if width == 1:
        half = block // 8
        packed = packed[:, :half] | packed[:, half:] << 1
    return packed.astype(np.uint8)


def _unpack(data: NDArray[np.uint8], width: int) -> NDArray[np.int64]:
    wide = data.astype(np.int64)
    if width == 1:
        wide = np.concatenate([wide & 0x55, wide >> 1 & 0x55], 1)
    mask = (1 << width) - 1
    return np.concatenate([wide >> 2 * f & mask for f in range(4)], 1)


def _planes(fmt: TrellisFormat) -> list[slice]:
    """Where the parts after the scale lie: path, second plane (empty in tq3), point bits (empty in tq2)."""
    plane, points = fmt.block // 8, fmt.block // 4
    second = 2 + plane + (0 if fmt.bits == 3 else plane)
    return [
        slice(2, 2 + plane),
        slice(2 + plane, second),
        slice(second, second + (0 if fmt.bits == 2 else points)),
    ]


# ------------------------------------------------------------------ floats, in a fixed order


def _sum(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum over the last axis in f32: 16 partial sums, then halves added to halves."""
    parts = x.reshape(x.shape[0], -1, _LANES)
    total = parts[:, 0].copy()
    for i in range(1, parts.shape[1]):
        total += parts[:, i]
    while total.shape[1] > 1:
        half = total.shape[1] // 2
        total = total[:, :half] + total[:, half:]
    return total[:, 0]


def _round_scale(scale: NDArray[np.float32]) -> NDArray[np.uint16]:
    """To f16 and then to 5 bits of mantissa; the largest finite value at most."""
    bits = np.minimum(scale, np.float32(60000)).astype(np.float16).view(np.uint16).astype(np.int64)
    rounded: NDArray[np.int64] = np.minimum((bits + 16) & ~31, 0x7BE0)
    return rounded.astype(np.uint16)


# ------------------------------------------------------------------ rows


def quantize(fmt: TrellisFormat, x: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Values, shape (blocks, fmt.block), to blocks, shape (blocks, fmt.type_size)."""
    with np.errstate(all="ignore"):
        return _quantize(fmt, np.ascontiguousarray(x, np.float32))


def _quantize(fmt: TrellisFormat, x: NDArray[np.float32]) -> NDArray[np.uint8]:
    book = LEVELS[fmt.bits]
    square = _sum(x * x)
    rms = np.sqrt(square * np.float32(1.0 / fmt.block))
    unit = np.float32(book.sigma_part) * rms + np.float32(book.peak_part) * np.abs(x).max(1)
    inverse = np.float32(1 << book.fine) / unit
    limit = np.float32(127 << book.fine)
    target = np.clip(np.rint(x * inverse[:, None]), -limit, limit)
    target = np.where(np.isfinite(target), target, 0).astype(np.int64)

    step_of = _steps_of_values(fmt.block)
    value_at = np.argsort(step_of)
    levels = candidates(fmt)
    distance = np.abs(target[:, :, None, None] - (levels << book.fine))
    point_of = distance.argmin(3)
    nearest = np.minimum(distance.min(3), _MAX_DISTANCE)
    metrics = np.minimum(nearest * nearest >> book.coarse, _MAX_METRIC).astype(np.int32)
    windows, start = viterbi(metrics[:, value_at], fmt.by_path)

    windows = windows[:, step_of]
    path = windows & 1
    kind = subsets()[windows] + (4 * path if fmt.by_path else 0)
    point = np.take_along_axis(point_of, kind[:, :, None], 2)[:, :, 0]
    level = levels[kind, point]

    # scale = <x, level> / <level, level>: the least squared error for these levels
    dot = _sum(x * level.astype(np.float32))
    norm = (level * level).sum(1).astype(np.float32)
    scale = _round_scale(np.maximum(dot / norm * np.float32(1 / SCALE_UNIT), np.float32(0)))
    head = scale | (start & 31).astype(np.uint16) | (start >> 5 << 15).astype(np.uint16)

    out = np.zeros((x.shape[0], fmt.type_size), np.uint8)
    at = _planes(fmt)
    out[:, 0:2] = head.astype("<u2")[:, None].view(np.uint8)
    out[:, at[0]] = _pack(path, 1)
    if fmt.bits == 2:
        out[:, at[1]] = _pack(point, 1)
    elif fmt.bits == 3:
        out[:, at[2]] = _pack(point, 2)
    else:
        out[:, at[1]] = _pack(point >> 2, 1)
        out[:, at[2]] = _pack(point & 3, 2)
    out[~(square >= np.float32(1e-12))] = 0
    broken = ~np.isfinite(square)
    out[broken] = 0
    out[broken, 1] = 0x7C
    return out


def integers(fmt: TrellisFormat, data: NDArray[np.uint8]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The levels, shape (blocks, fmt.block), and the scales, shape (blocks,), of ``data``."""
    head = data[:, :2].copy().view("<u2")[:, 0].astype(np.int64)
    with np.errstate(invalid="ignore"):  # damaged data may hold signalling not-a-numbers
        scale = (head & 0x7FE0).astype(np.uint16).view(np.float16).astype(np.float32) * np.float32(SCALE_UNIT)
    at = _planes(fmt)
    step_of = _steps_of_values(fmt.block)
    path = _unpack(data[:, at[0]], 1)
    start = head & 31 | head >> 15 << 5
    before = start[:, None] >> np.arange(MEMORY - 1, -1, -1) & 1  # u[-6] .. u[-1]
    u = np.concatenate([before, path[:, np.argsort(step_of)]], 1)

    def parity(taps: tuple[int, ...]) -> NDArray[np.int64]:
        end = u.shape[1]
        out = np.zeros((u.shape[0], fmt.block), np.int64)
        for tap in taps:
            out ^= u[:, MEMORY - tap : end - tap]
        return out[:, step_of]

    subset = 2 * parity(HI_TAPS) + parity(LO_TAPS)
    if fmt.bits == 2:
        table, point = np.zeros_like(path), 2 * path + _unpack(data[:, at[1]], 1)
    elif fmt.bits == 3:
        table, point = path, _unpack(data[:, at[2]], 2)
    else:
        table, point = _unpack(data[:, at[1]], 1), _unpack(data[:, at[2]], 2)
    return fmt.levels[table, point, subset], scale


def dequantize(fmt: TrellisFormat, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Blocks, shape (blocks, fmt.type_size), to values, shape (blocks, fmt.block)."""
    level, scale = integers(fmt, data)
    with np.errstate(all="ignore"):
        return level.astype(np.float32) * scale[:, None]
