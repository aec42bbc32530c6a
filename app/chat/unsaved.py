"""Replies that are complete and could not be written: the disk is full, or something else is wrong."""

from __future__ import annotations

from dataclasses import dataclass

from app.store.records import Figures, State
from app.store.store import Store
from quantize.errors import StoreError


@dataclass(frozen=True, slots=True)
class _Final:
    """What ``Store.finish`` takes."""

    text: str
    state: State
    figures: Figures | None


class Unsaved:
    """Writes the end of replies, and keeps in memory what has to be written later."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._left: dict[int, _Final] = {}

    def __len__(self) -> int:
        return len(self._left)

    def finish(self, message_id: int, text: str, state: State, figures: Figures | None) -> None:
        """Write the final text of a reply.

        Raises:
            StoreError: if that failed. ``save`` tries it again.
        """
        self._left[message_id] = _Final(text, state, figures)
        self._write(message_id)

    def save(self) -> bool:
        """Write what is left. Whether there was something and nothing is left of it."""
        if not self._left:
            return False
        try:
            for message_id in list(self._left):
                self._write(message_id)
        except StoreError:
            return False
        return True

    def _write(self, message_id: int) -> None:
        final = self._left[message_id]
        self._store.finish(message_id, final.text, state=final.state, figures=final.figures)
        del self._left[message_id]
