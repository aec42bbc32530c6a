"""What the choosers of types and of the length ask: the session's figures, and a preview."""

from __future__ import annotations

from typing import Protocol

from app.chat.losses import Losses
from app.engine.protocol import KEEP_TAIL, CachePreview, Loaded, Status


class FiguresSource(Protocol):
    """The part of the session that the choosers use."""

    @property
    def status(self) -> Status | None:
        """The last figures."""

    @property
    def loaded(self) -> Loaded | None:
        """The model, or None while there is none."""

    @property
    def losses(self) -> Losses:
        """What was measured on the conversation."""

    async def preview_cache(
        self, type_k: str = "", type_v: str = "", n_ctx: int = -1, tail: int = KEEP_TAIL
    ) -> CachePreview:
        """What a change would need and gain.

        Raises:
            StretchError: if the engine refuses or is not there.
        """
        ...
