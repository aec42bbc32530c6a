"""What a file would be like with other types of weights: its size and what it would take in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from models.header import Header
from models.plan import Planner
from models.tensor_types import TENSOR_TYPES
from quantize.cache_types import CachePair
from quantize.errors import CacheTypeError

_TYPES = {t.name: t for t in TENSOR_TYPES.values()}


def with_types(header: Header, types: Mapping[str, str]) -> Header:
    """The header of a file in which the tensors have these types, by name; the others stay.

    All parts of a split model become one file. Of this header only the sizes are meant; its
    metadata still says what the old file's says.
    """
    tensors = []
    place = end = 0
    for tensor in header.tensors:
        kind = _TYPES[types[tensor.name]] if types.get(tensor.name) else TENSOR_TYPES[tensor.type_id]
        n_bytes = tensor.n_elements // kind.block_size * kind.type_size
        tensors.append(replace(tensor, type_id=kind.id, n_bytes=n_bytes, offset=place, part=0))
        end = place + n_bytes
        place += -(-n_bytes // header.alignment) * header.alignment
    return replace(
        header,
        tensors=tuple(tensors),
        by_name={t.name: t for t in tensors},
        file_bytes=header.data_offset + end,
        n_parts=1,
    )


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """One figure before and after."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What other types of weights do to the memory of the whole program."""

    file: MemoryChange
    total: MemoryChange
    """Of the program with a context of ``n_ctx`` tokens."""
    longest: MemoryChange
    """Context in tokens that fits into the memory that is free."""
    n_ctx: int


def effect(before: Header, after: Header, pair: CachePair, n_ctx: int, budget: int) -> Effect | None:
    """Compare the plans of two files; None if they cannot be planned with this cache."""
    planners = Planner(before), Planner(after)
    try:
        totals = [p.plan(pair, n_ctx).total for p in planners]
        rows = [p.row(pair, n_ctx=n_ctx, budget=budget) for p in planners]
    except CacheTypeError:
        return None
    return Effect(
        MemoryChange(before.file_bytes, after.file_bytes),
        MemoryChange(totals[0], totals[1]),
        MemoryChange(rows[0].max_ctx, rows[1].max_ctx),
        n_ctx,
    )
