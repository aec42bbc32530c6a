"""What a change of the cache takes while it happens, decided before anything is allocated."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.engine import states
from app.engine.budget import Budget
from app.engine.cache import Cache, CacheSettings
from quantize.geometry import Geometry
from quantize.transcode import working_bytes


@dataclass(frozen=True, slots=True)
class Needs:
    """What a change takes on top of what is taken now, in bytes."""

    state: int
    """Of the saved state as it is."""
    new_state: int
    """Of the transcoded one; 0 if the types stay."""
    new_in_file: bool
    """The transcoded state has to be in a file, for memory is short."""
    both: int
    """Memory at the peak, with the old and the new context."""
    one: int
    """Memory at the peak if the old context is freed first (negative if it gives more than is taken)."""
    available: int
    through_file: bool
    """Both contexts do not fit at once."""
    fits: bool


def needs_of(old: Cache, wanted: CacheSettings, budget: Budget, geometry: Geometry, *, empty: bool) -> Needs:
    """What the change from ``old`` to ``wanted`` takes.

    Args:
        empty: there is no state to take along: nothing was read, or it will be read again.
    """
    state = new_state = work = 0
    if not empty:
        state = old.context.state_size()
        ratio = budget.rows_bytes(wanted) / max(1, budget.rows_bytes(old.settings))
        same_length = ratio * old.settings.n_ctx / wanted.n_ctx
        if wanted.types != old.settings.types:
            new_state = math.ceil(state * same_length) + 65536
            work = working_bytes(geometry)
        # The exact rows, on their way to the new window.
        work += budget.kv_bytes(wanted) - budget.rows_bytes(wanted)
    added = budget.context_bytes(wanted)
    available = budget.free(old.settings)
    disk = states.disk_room()
    both_files = state + new_state <= disk
    both = (0 if state <= disk else state) + new_state + max(work, added)
    new_in_file = both > available and both_files
    if new_in_file:
        both = max(work, added)
    one = max(work, added - budget.context_bytes(old.settings))
    fits_both, fits_one = both <= available, one <= available and both_files
    return Needs(state, new_state, new_in_file, both, one, available, not fits_both, fits_both or fits_one)
