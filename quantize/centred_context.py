"""The native side of a context whose K is centred: which layers are, where its rows stand, what was lost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from quantize.centring import Centring, native
from quantize.state import SavedState


class CentredContext:
    """The native side of one context whose K is centred."""

    def __init__(self, centring: Centring) -> None:
        """Of the context that was created last."""
        self._number = int(native().st_device_last())
        self._centring = centring
        self._lost: Callable[[int], bool] = native().st_device_centre_lost

    @property
    def whole(self) -> bool:
        """Whether every layer is written and read by the own kernel. Otherwise the context must not be
        used."""
        return int(native().st_device_centred_layers(self._number)) == self._centring.n_layers

    @property
    def bytes(self) -> int:
        """What the kernel keeps to know where cells stand."""
        return max(0, int(native().st_device_places_bytes(self._number)))

    def lost(self) -> bool:
        """Whether a constant could not be put back since this was asked last."""
        return bool(self._lost(self._number))

    def loaded(self, state: SavedState, stream: int) -> bool:
        """Tell where the rows stand that were loaded from a state. False if memory ran out.

        Args:
            state: what was loaded; of a partial one the parts that it has, which are the last.
            stream: of the caches, which holds nothing else.
        """
        missing = len(self._centring.geometry.parts) - len(state.parts)
        for index, part in enumerate(state.parts):
            leading = self._centring.leading(missing + index)
            if leading is None:
                continue
            rows = state.rows(part.k[leading]) if part.n_cells else np.empty((0, 1), np.uint8)
            at, data = np.ascontiguousarray(state.positions(index), np.int32), np.ascontiguousarray(rows)
            if not native().st_device_places_load(
                self._number,
                missing + index,
                stream,
                len(at),
                at.ctypes.data,
                data.ctypes.data,
                data.shape[1],
            ):
                return False
        return True
