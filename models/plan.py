"""The memory plan: what a model takes, and how far its context can stretch.

Pure arithmetic on a header, no native library: usable in the interface's process, and fast enough
to be asked twice per second. ``models.dryrun`` asks the engine's own allocator for the same
figures, and ``models.exact`` makes a planner of them.

Usage::

    planner = Planner(read_header(path))
    plan = planner.plan(parse_pair("q8_0"), n_ctx=8192)
    rows = planner.stretch_table(n_ctx=8192, budget=memory().available)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from models.compute import compute_formula, overhead_bytes
from models.cpu import CpuFeatures, cpu_features
from models.geometry import Shape, read_shape
from models.header import Header
from models.refusals import slow_weights
from models.stretch_row import StretchRow as StretchRow
from models.weights import Weights, weigh
from quantize.cache_types import CACHE_TYPES, PRESETS, SINKS, CachePair, GgmlType
from quantize.errors import CacheTypeError
from quantize.geometry import LayerHeads

N_UBATCH = 512
"""Tokens that the engine computes at once."""

CELL_STEP = 256
"""llama.cpp rounds the length of a context up to a multiple of this."""

MAX_CTX = 1 << 24
"""No context is planned longer than this; it is what a model without a growing cache "reaches"."""

_F16 = CACHE_TYPES["f16"].variants[0]


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What the engine's process takes with one setting, in bytes."""

    weights_mapped: int
    """The part of the model file that stays mapped. The system can drop and reread it."""
    weights_repacked: int
    """The second copy of some weights in a faster layout."""
    cache: int
    """K and V of all layers, and the states of recurrent layers."""
    compute: int
    """Results in between of one computation."""
    overhead: int
    """The interpreter, the libraries and buffers that belong to no tensor."""
    unknown: tuple[str, ...] = ()
    """Sentences about what could not be determined."""

    @property
    def total(self) -> int:
        """Everything together: the resident size of the process."""
        return self.weights_mapped + self.weights_repacked + self.cache + self.compute + self.overhead


class Planner:
    """Plans for one model on this machine."""

    def __init__(
        self,
        header: Header,
        *,
        n_ubatch: int = N_UBATCH,
        n_seq_max: int = 1,
        n_outputs_max: int = 1,
        repack: bool = True,
        cpu: CpuFeatures | None = None,
    ) -> None:
        """Read the shape of the model.

        Args:
            repack: whether the engine keeps a second copy of some weights (``use_extra_bufts``).
            cpu: the processor that the engine runs on; this machine's by default.

        Raises:
            ModelFileError: if the header does not describe a model that this engine chats with.
        """
        self.shape: Shape = read_shape(header)
        self.n_ubatch = n_ubatch
        self.n_seq_max = n_seq_max
        self.n_outputs_max = n_outputs_max
        cpu = cpu or cpu_features()
        self.weights: Weights = weigh(header, cpu, repack=repack)
        self.notes: tuple[str, ...] = tuple(filter(None, (slow_weights(header, cpu),)))
        """Sentences about what runs here, but not well."""
        self._base = Counter(self.shape.base)
        self._sliding = Counter(self.shape.sliding)
        self._layers = self._base + self._sliding
        window = self.cells(MAX_CTX)[1] if self.shape.sliding else 0
        self._work = compute_formula(header, self.shape, n_ubatch, n_outputs_max, window)
        self._overhead = overhead_bytes(header, self.shape, n_ubatch)

    # ------------------------------------------------------------------ sizes

    def cells(self, n_ctx: int) -> tuple[int, int]:
        """Cells per sequence of the caches that hold everything and of those that hold the window."""
        per_seq = round_up(max(round_up(max(n_ctx, 1)) // self.n_seq_max, 1))
        n_ubatch = min(self.n_ubatch, max(n_ctx, 1))
        return per_seq, round_up(min(per_seq, self.shape.n_swa + n_ubatch))

    def bytes_per_token(self, pair: CachePair) -> float:
        """What each further token of the context costs, once a sliding window is full.

        Raises:
            CacheTypeError: if the setting cannot be used with this model.
        """
        return float(_row_bytes(self._base, *self.types(pair), self.shape.mla))

    def cache_bytes(self, pair: CachePair, n_ctx: int, *, tail: int = 0) -> int:
        """Bytes of the cache of a context of ``n_ctx`` tokens, as the engine allocates it.

        Raises:
            CacheTypeError: if the setting cannot be used with this model.
        """
        full, window = self.cells(n_ctx)
        types = self.types(pair)
        kv = full * _row_bytes(self._base, *types, self.shape.mla)
        kv += window * _row_bytes(self._sliding, *types, self.shape.mla)
        return (kv + self.shape.recurrent_bytes) * self.n_seq_max + self.tail_bytes(pair, tail, n_ctx)

    def tail_bytes(self, pair: CachePair, tail: int, n_ctx: int = MAX_CTX) -> int:
        """Bytes of the exact window of the newest ``tail`` tokens and the first ``SINKS``, beside the cache.

        Per row and side it keeps the values as f16, the bytes that the cache made of them, and the
        number of the cell; and twice the rows of one computation (``quantize/native/tail.c``).

        Raises:
            CacheTypeError: if the setting cannot be used with this model.
        """
        if not tail:
            return 0
        k, v = self.types(pair)
        sizes_k = [(4 + 2 * h.n_embd_k + k.row_size(h.n_embd_k), n) for h, n in self._layers.items()]
        sizes_v = [(4 + 2 * h.n_embd_v + v.row_size(h.n_embd_v), n) for h, n in self._layers.items()]
        sides = [sizes_k] if self.shape.mla else [sizes_k, sizes_v]
        kept = sum(size * n for side in sides for size, n in side)
        at_once = sum(max((size for size, _ in side), default=0) for side in sides)
        return kept * (tail + SINKS) * self.n_seq_max + 2 * min(self.n_ubatch, round_up(n_ctx)) * at_once

    def compute_bytes(self, pair: CachePair, n_ctx: int) -> int:
        """Bytes of the buffer for one computation; an estimate, the cache's types hardly matter."""
        return self._work(n_ctx)

    def plan(self, pair: CachePair, n_ctx: int, *, tail: int = 0) -> MemoryPlan:
        """Everything that the engine's process takes.

        Raises:
            CacheTypeError: if the setting cannot be used with this model.
        """
        return MemoryPlan(
            weights_mapped=self.weights.mapped,
            weights_repacked=self.weights.repacked,
            cache=self.cache_bytes(pair, n_ctx, tail=tail),
            compute=self.compute_bytes(pair, n_ctx),
            overhead=self._overhead,
            unknown=self.shape.unknown + self.weights.unknown,
        )

    # ------------------------------------------------------------------ how far

    def refusal(self, pair: CachePair) -> str:
        """Why this setting cannot be used with this model and what to take, or an empty string."""
        try:
            self.types(pair)
        except CacheTypeError as error:
            return str(error)
        return ""

    def max_ctx(self, pair: CachePair, budget: int, *, tail: int = 0) -> int:
        """The longest context (a multiple of 256, not regarding the trained length) with which the
        whole process takes no more than ``budget`` bytes; 0 if none fits.

        Raises:
            CacheTypeError: if the setting cannot be used with this model.
        """
        low, high = 0, MAX_CTX // CELL_STEP
        while low < high:
            middle = (low + high + 1) // 2
            if self.plan(pair, middle * CELL_STEP, tail=tail).total <= budget:
                low = middle
            else:
                high = middle - 1
        return low * CELL_STEP

    def row(self, pair: CachePair, *, n_ctx: int, budget: int, tail: int = 0) -> StretchRow:
        """One row of the stretch table; a setting that cannot be used gives a row with ``refused``."""
        refused = self.refusal(pair)
        if refused:
            return StretchRow(pair.k.name, pair.v.name, tail, 0.0, 0, 0, 0, "memory", refused)
        longest = self.max_ctx(pair, budget, tail=tail)
        trained = self.shape.n_ctx_train or longest
        return StretchRow(
            type_k=pair.k.name,
            type_v=pair.v.name,
            tail=tail,
            bytes_per_token=self.bytes_per_token(pair),
            kv_bytes=self.cache_bytes(pair, n_ctx, tail=tail),
            max_ctx=min(longest, trained),
            max_ctx_memory=longest,
            limit="memory" if longest < trained else "trained",
        )

    def stretch_table(
        self, *, n_ctx: int, budget: int, settings: Sequence[CachePair] = PRESETS, tail: int = 0
    ) -> list[StretchRow]:
        """A row per setting.

        Args:
            n_ctx: present length of the context.
            budget: bytes that the engine's whole process may take: what is available now plus
                what the engine holds already.
            tail: newest tokens that are kept exactly, or ``AUTO_TAIL``; a setting without a compressed
                type has no window.
        """
        return [self.row(pair, n_ctx=n_ctx, budget=budget, tail=pair.tail(tail)) for pair in settings]

    def types(self, pair: CachePair) -> tuple[GgmlType, GgmlType]:
        """The row formats of K and V, checked against the sizes of the heads as the engine does.

        Raises:
            CacheTypeError: if the engine would refuse them.
        """
        if not self.shape.stores_kv:
            return _F16, _F16
        if self.shape.mla and pair.k != pair.v:
            raise CacheTypeError(
                "This model keeps K and V in one row, so both need the same type.",
                f"Choose {pair.k.name} for both.",
            )
        return pair.k.variant(self.shape.head_dim_k), pair.v.variant(self.shape.head_dim_v)


def _row_bytes(layers: Counter[LayerHeads], k: GgmlType, v: GgmlType, mla: bool) -> int:
    """Bytes of K and V of one token in all these layers."""
    n = 0
    for heads, count in layers.items():
        n += count * k.row_size(heads.n_embd_k)
        if not mla:
            n += count * v.row_size(heads.n_embd_v)
    return n


def round_up(n_ctx: int) -> int:
    """The length that llama.cpp makes of this one."""
    return -(-n_ctx // CELL_STEP) * CELL_STEP
