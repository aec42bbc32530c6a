"""A source of figures that is made of figures: previews follow from the table of rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.chat.losses import NOTHING, Losses
from app.engine.protocol import KEEP_TAIL, CachePreview, Loaded, Status
from quantize.cache_types import AUTO_TAIL, cache_type, parse_pair
from quantize.errors import OutOfMemoryError
from tests.panel import figures


@dataclass
class Figures:
    """Values per token of K and of V decide everything, as in a model with one size of head."""

    status: Status | None = field(default_factory=figures.status)
    loaded: Loaded | None = field(default_factory=figures.loaded)
    values_per_token: int = 36_864
    budget: int = 6 * figures.GIB
    refuse: bool = False
    losses: Losses = NOTHING
    asked: list[tuple[str, str, int]] = field(default_factory=list)

    def bytes_of(self, type_k: str, type_v: str, n_ctx: int) -> int:
        bits = cache_type(type_k).bits() + cache_type(type_v).bits()
        return int(self.values_per_token * bits / 8 * n_ctx)

    async def preview_cache(
        self, type_k: str = "", type_v: str = "", n_ctx: int = -1, tail: int = KEEP_TAIL
    ) -> CachePreview:
        self.asked.append((type_k, type_v, n_ctx))
        if self.refuse or self.status is None:
            raise OutOfMemoryError("There is no memory for this.", "Choose a smaller type.")
        now = self.status
        type_k, type_v = type_k or now.type_k, type_v or now.type_v
        n_ctx = now.n_ctx if n_ctx < 0 else n_ctx
        before = self.bytes_of(now.type_k, now.type_v, now.n_ctx)
        after = self.bytes_of(type_k, type_v, n_ctx)
        wish = tail if tail != KEEP_TAIL or self.loaded is None else self.loaded.tail_wish
        window = parse_pair(f"{type_k}/{type_v}").tail(max(wish, AUTO_TAIL))
        after += 4 * self.values_per_token * window
        return CachePreview(
            id=1,
            type_k=type_k,
            type_v=type_v,
            tail=window,
            n_ctx=n_ctx,
            bytes_before=before,
            bytes_after=after,
            peak_bytes=after + after // 16,
            through_file=after > self.budget // 2,
            reprefill=False,
            fits=after < self.budget,
            sentence="It fits."
            if after < self.budget
            else "It does not fit into the memory that is available.",
            reach=min(131_072, self.budget * n_ctx // after),
        )
