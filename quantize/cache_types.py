"""The table of cache types: what K and V can be stored as, and what each costs.

Pure data: importing this loads no native library. Sizes are ggml's own (block size in
values, type size in bytes); ``tests/quantize/test_cache_types.py`` compares them with the library.

What limits a choice:

- a block must not cross a head, so the block size has to divide the size of every head;
- quantized V needs flash attention;
- models with latent attention (MLA) take one type for both;
- the native types (tq4, tq3, tq2) have to be registered before a context is created, which
  ``quantize.llama.Context`` and ``quantize.ggml`` do (``quantize.native.require_types``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

from quantize.errors import CacheTypeError


@dataclass(frozen=True, slots=True)
class GgmlType:
    """One row format of ggml."""

    id: int
    """ggml's type id (``enum ggml_type``)."""
    block_size: int
    """Values per block."""
    type_size: int
    """Bytes per block."""

    def row_size(self, n_values: int) -> int:
        """Bytes of a row of ``n_values`` values (a multiple of the block size)."""
        return n_values // self.block_size * self.type_size


@dataclass(frozen=True, slots=True)
class CacheType:
    """A precision that K or V can have.

    A name can stand for several row formats (TurboQuant has one per block size); which one
    applies depends on the size of a head.
    """

    name: str
    variants: tuple[GgmlType, ...]
    """Row formats, the one with the largest block first."""
    quantized: bool
    """True for block formats. Quantized V needs flash attention."""
    native: bool
    """True if the format comes from Stretch's own library instead of ggml."""
    summary: str
    """What it is, in one plain sentence. What it costs depends on the model (``quantize/lab/loss.py``)."""

    def variant(self, head_dim: int) -> GgmlType:
        """The row format for heads of ``head_dim`` values.

        Raises:
            CacheTypeError: if no block size divides ``head_dim``.
        """
        for v in self.variants:
            if head_dim % v.block_size == 0:
                return v
        blocks = " or ".join(str(v.block_size) for v in self.variants)
        raise CacheTypeError(
            f"{self.name} stores blocks of {blocks} values and this model's heads have {head_dim}.",
            f"The nearest type that fits is {nearest_stock(self, head_dim).name}.",
        )

    def bits(self, head_dim: int = 128) -> float:
        """Bits per value, scales and norms included."""
        v = self.variant(head_dim)
        return float(Fraction(v.type_size * 8, v.block_size))


def _turbo(name: str, ids: tuple[int, int], bits: int, summary: str) -> CacheType:
    """Formats of ``quantize/turboquant/trellis.py``: blocks of 128 and of 64 values, with a 16-bit scale."""
    variants = tuple(GgmlType(i, n, 2 + bits * n // 8) for i, n in zip(ids, (128, 64), strict=True))
    return CacheType(name, variants, True, True, summary)


def _stock(name: str, id: int, block: int, size: int, summary: str) -> CacheType:
    return CacheType(name, (GgmlType(id, block, size),), block > 1, False, summary)


_TABLE = (
    _stock("f32", 0, 1, 4, "32 bits: twice the size of f16."),
    _stock("f16", 1, 1, 2, "The reference: what every other type is measured against."),
    _stock("bf16", 30, 1, 2, "The size of f16 with a wider range and fewer digits."),
    _stock("q8_0", 8, 32, 34, "8.5 bits: about half of f16."),
    _stock("q5_1", 7, 32, 24, "6 bits, with an offset for every 32 values."),
    _stock("q5_0", 6, 32, 22, "5.5 bits."),
    _stock("q4_1", 3, 32, 20, "5 bits, with an offset for every 32 values."),
    _stock("q4_0", 2, 32, 18, "4.5 bits."),
    _stock("iq4_nl", 20, 32, 18, "4.5 bits on uneven levels."),
    _stock("mxfp4", 39, 32, 17, "4.25 bits, floating-point levels."),
    _stock("nvfp4", 40, 64, 36, "4.5 bits, floating-point levels and finer scales."),
    _turbo("tq4", (31, 36), 4, "4.1 bits, TurboQuant on a trellis."),
    _turbo("tq3", (32, 37), 3, "3.1 bits, TurboQuant on a trellis."),
    _turbo("tq2", (33, 38), 2, "2.1 bits, TurboQuant on a trellis."),
    _stock("q2_0", 42, 64, 18, "2.25 bits, for experiments."),
    _stock("q1_0", 41, 128, 18, "1.125 bits, for experiments."),
)

CACHE_TYPES: dict[str, CacheType] = {t.name: t for t in _TABLE}
"""Every cache type by name."""

NATIVE_IDS: frozenset[int] = frozenset(v.id for t in _TABLE if t.native for v in t.variants)
"""ggml ids that only exist once Stretch's native library has registered them."""


def cache_type(name: str) -> CacheType:
    """The cache type called ``name`` (case does not matter).

    Raises:
        CacheTypeError: if there is none; the hint lists the names.
    """
    found = CACHE_TYPES.get(name.strip().lower())
    if found is None:
        raise CacheTypeError(
            f"There is no cache type called {name.strip()!r}.",
            "Choose one of: " + ", ".join(CACHE_TYPES) + ".",
        )
    return found


def nearest_stock(wanted: CacheType, head_dim: int) -> CacheType:
    """The stock type nearest in size to ``wanted`` whose blocks divide heads of ``head_dim`` values.

    Of two that are equally near the larger one, and of equal sizes the first of the table.
    """
    smallest = wanted.variants[-1]
    bits = Fraction(smallest.type_size * 8, smallest.block_size)

    def distance(candidate: CacheType) -> tuple[Fraction, Fraction]:
        v = candidate.variants[0]
        size = Fraction(v.type_size * 8, v.block_size)
        return abs(size - bits), -size

    fits = [t for t in _TABLE if not t.native and head_dim % t.variants[0].block_size == 0]
    return min(fits, key=distance)


AUTO_TAIL = -1
"""Instead of a number of newest tokens to keep exactly: as many as suit the types, which is
``DEFAULT_TAIL`` beside types of less than 8 bits and none beside others (docs/tiers.md)."""

DEFAULT_TAIL = 256

SINKS = 4
"""First tokens that a window keeps exactly as well: models rest their attention on them."""

MAX_TAIL = 1 << 20
"""The longest window that can be asked for."""


@dataclass(frozen=True, slots=True)
class CachePair:
    """The types of K and V together: one cache setting."""

    k: CacheType
    v: CacheType

    @property
    def label(self) -> str:
        """``q8_0`` if both are the same, else ``q8_0/q4_0``."""
        return self.k.name if self.k == self.v else f"{self.k.name}/{self.v.name}"

    def tail(self, wish: int, n_ctx: int = 0) -> int:
        """Newest tokens that are kept exactly beside this cache.

        Args:
            wish: a number of tokens, or ``AUTO_TAIL`` for what suits the types.
            n_ctx: length of the context, which no window is longer than; 0 if it is not known.

        Returns:
            0 where every row is exact anyway.
        """
        if not (self.k.quantized or self.v.quantized):
            return 0
        small = any(t.variants[0].type_size < t.variants[0].block_size for t in (self.k, self.v))
        tokens = wish if wish >= 0 else DEFAULT_TAIL if small else 0
        return min(tokens, n_ctx) if n_ctx else tokens

    def type_ids(self, head_dims_k: Collection[int], head_dims_v: Collection[int]) -> tuple[int, int]:
        """ggml's type ids of K and V for a model with heads of these sizes.

        A model whose layers have heads of different sizes takes one row format for all of them.

        Raises:
            CacheTypeError: if no block size divides all of them; the hint names a type that fits.
        """
        return self.k.variant(gcd(*head_dims_k)).id, self.v.variant(gcd(*head_dims_v)).id

    def obstacle(
        self,
        head_dims_k: Collection[int],
        head_dims_v: Collection[int],
        *,
        flash_attention: bool = True,
        mla: bool = False,
    ) -> str:
        """Why this setting cannot be used with a model, in one sentence; empty if it can.

        Args:
            head_dims_k: sizes of the model's heads of K.
            head_dims_v: the same for V.
            mla: whether the model has latent attention.
        """
        if mla and self.k != self.v:
            return "This model keeps K and V as one vector, so both take the same type."
        if self.v.quantized and not flash_attention:
            return f"{self.v.name} as V needs flash attention, which this model runs without."
        try:
            self.type_ids(head_dims_k, head_dims_v)
        except CacheTypeError as error:
            return str(error)
        return ""

    def __str__(self) -> str:
        return self.label


def parse_pair(text: str) -> CachePair:
    """Read ``q8_0`` (both) or ``q8_0/q4_0`` (K first).

    Raises:
        CacheTypeError: if a name is unknown or there are more than two.
    """
    parts = [part.strip() for part in text.split("/")]
    if len(parts) > 2:
        raise CacheTypeError(
            f"{text!r} names more than two cache types.", "Write K/V, for example q8_0/q4_0."
        )
    if not all(parts):
        raise CacheTypeError(
            f"{text!r} leaves out a cache type.", "Write one for both, or K/V, for example q8_0/q4_0."
        )
    return CachePair(cache_type(parts[0]), cache_type(parts[-1]))


def parse_tail(text: str) -> int:
    """Read ``256``, ``1k``, ``off`` or ``auto`` as a window of newest tokens that are kept exactly.

    Raises:
        CacheTypeError: if it is none of these.
    """
    word = text.strip().lower().replace(",", "")
    if word in ("auto", "off"):
        return AUTO_TAIL if word == "auto" else 0
    digits, factor = (word[:-1], 1024) if word.endswith("k") else (word, 1)
    n = int(digits) * factor if digits.isascii() and digits.isdigit() and len(digits) <= 7 else MAX_TAIL + 1
    if n > MAX_TAIL:
        raise CacheTypeError(
            f"{text.strip()!r} is no number of newest tokens up to {MAX_TAIL:,}.",
            "Write for example 256, off or auto.",
        )
    return n


def parse_cache(text: str) -> tuple[CachePair, int | None]:
    """Read ``q8_0``, ``q8_0/tq3`` or ``tq3+256``: the types, and the window if one is named.

    Raises:
        CacheTypeError: if a name or the window makes no sense.
    """
    types, plus, tail = text.partition("+")
    return parse_pair(types), parse_tail(tail) if plus else None


PRESETS: tuple[CachePair, ...] = tuple(
    parse_pair(p) for p in ("f16", "q8_0", "q8_0/tq3", "tq4", "tq4/tq3", "tq3", "tq2")
)
"""The settings that one key cycles through and that the stretch table shows, each in the order of what they
cost on the model in use; those that break it are left out of the cycle.

Where K and V differ K has more bits: models whose keys have large outliers lose little with 8 bits
for K and 3 for V, and everything with 3 for both (docs/turboquant.md).
"""
