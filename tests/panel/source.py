"""A source of figures that is made of figures: previews follow from the table of rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.chat.losses import NOTHING, Losses
from app.engine.protocol import KEEP_TAIL, CachePreview, Loaded, Status
from quantize.cache_types import AUTO_TAIL, CACHE_TYPES, cache_type, parse_pair
from quantize.errors import OutOfMemoryError
from quantize.lab.loss import NO_LOSS, UNKNOWN, Loss
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
    breaks_below: float = 0.0
    """Bits of K below which the model breaks; 0 says nothing of losses."""

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
            loss=self.loss_of(type_k, type_v),
            warning=figures.warning(type_k) if self.loss_of(type_k, type_v).breaks else "",
            losses_k=self.losses_of([(t, type_v) for t in CACHE_TYPES]),
            losses_v=self.losses_of([(type_k, t) for t in CACHE_TYPES]),
        )

    def loss_of(self, type_k: str, type_v: str) -> Loss:
        """A loss that grows as the bits go; that of q8_0 and of f16 is measured."""
        if not self.breaks_below:
            return UNKNOWN
        k, v = (cache_type(t).bits() for t in (type_k, type_v))
        if k >= 16 and v >= 16:
            return NO_LOSS
        kld = 0.002 + 2.0**-k + 0.2 * 2.0**-v + (1.7 if k < self.breaks_below else 0.0)
        return figures.loss(kld, 0.4 if k < self.breaks_below else 0.95, measured=k >= 8)

    def losses_of(self, pairs: list[tuple[str, str]]) -> tuple[Loss, ...]:
        return tuple(self.loss_of(*pair) for pair in pairs) if self.breaks_below else ()
