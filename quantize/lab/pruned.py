"""A cache that was read exactly and then pruned, and changed to other types if that is asked for.

What ``/prune`` does in a conversation, followed by ``/kv``. Questions come after the prune, so no policy
knows them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from quantize.errors import CacheTypeError, StateError, UsageError
from quantize.lab.setting import REFERENCE, Setting, parse_setting
from quantize.lab.subject import Subject

if TYPE_CHECKING:
    from quantize.geometry import Geometry
    from quantize.lab.candidate import Candidate
    from quantize.lab.subject import Workbench
    from quantize.native.tail import Tail
    from quantize.state import SavedState


@dataclass(frozen=True)
class PrunedSetting(Setting):
    """Read as f16, pruned, then transcoded to ``pair``."""

    policy: str = "kvzip"
    keep: float = 0.5
    whole: bool = False
    """Whole tokens instead of cells of every layer and head."""

    kind: ClassVar[str] = "prune"
    settles: ClassVar[bool] = True

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Read ``kvzip:25``, ``lagkv:50:whole`` or ``kvzip:25@tq3+256``.

        Raises:
            UsageError: if there is no such policy, or the share makes no sense.
            CacheTypeError: if the types behind the ``@`` are none.
        """
        from quantize.prune.names import POLICIES

        own, at, types = text.partition("@")
        match = re.fullmatch(r"([a-z0-9_-]+):(\d{1,3})%?(:whole)?", own.strip().lower())
        name = match[1].replace("-", "_") if match else ""
        if match is None or name not in POLICIES or not 0 < int(match[2]) <= 100:
            raise UsageError(
                f"{text.strip()!r} is no way to prune.",
                f"Write for example kvzip:25 or kvzip:25@tq3+256. There are: {', '.join(POLICIES)}.",
            )
        plain = parse_setting(types) if at else REFERENCE
        return cls(plain.pair, plain.tail, name, int(match[2]) / 100, bool(match[3]))

    @property
    def label(self) -> str:
        """``kvzip:25``, ``kvzip:25@tq3+256``."""
        own = f"{self.policy}:{self.keep * 100:.0f}{':whole' if self.whole else ''}"
        types = super().label
        return own if types == REFERENCE.label else f"{own}@{types}"

    def data(self) -> dict[str, Any]:
        return super().data() | {"policy": self.policy, "keep": self.keep, "whole": self.whole}

    def sized(self, plain: Candidate, n_ctx: int) -> Candidate:
        rest = plain.kv_bytes - plain.tail_bytes
        return replace(
            plain,
            bytes_per_token=plain.bytes_per_token * self.keep,
            kv_bytes=int(rest * self.keep) + plain.tail_bytes,
        )

    def obstacle(self, bench: Workbench) -> str:
        from quantize.prune.policy import policy

        reason = super().obstacle(bench)
        if not reason and not bench.plain_cache:
            reason = "This model's memory is not made of K and V of every token: it cannot be pruned."
        if not reason and policy(self.policy).needs_kernel and not bench.attention.ok:
            reason = f"{self.policy} looks at the attention. {bench.attention.reason}"
        return reason

    def open(self, bench: Workbench, *, n_ctx: int, n_batch: int, n_outputs: int = 1) -> Subject:
        """An empty f16 cache, which ``settle`` prunes.

        Raises:
            CacheTypeError: if the model or this installation cannot have it.
            EngineError: if llama.cpp does not make it.
        """
        reason = self.obstacle(bench)
        if reason:
            raise CacheTypeError(reason)
        exact = REFERENCE.open(bench, n_ctx=n_ctx, n_batch=n_batch, n_outputs=n_outputs)
        small: Subject | None = None
        if (self.pair, self.tail) != (REFERENCE.pair, REFERENCE.tail):
            plain = Setting(self.pair, self.tail)
            try:
                small = plain.open(bench, n_ctx=n_ctx, n_batch=n_batch, n_outputs=n_outputs)
            except BaseException:
                exact.close()
                raise
        return PrunedSubject(self, exact, small)


class PrunedSubject(Subject):
    """A cache that is pruned when the prompt was read."""

    def __init__(self, setting: PrunedSetting, exact: Subject, small: Subject | None) -> None:
        """
        Args:
            exact: what the prompt is read into. Belongs to this one from now on, as ``small`` does.
            small: the empty cache of other types that goes on after the prune; None for the same.
        """
        super().__init__(exact.bench, exact.context)
        self._setting = setting
        self._exact = exact
        self._small = small
        self._tokens: list[int] = []

    def read(self, tokens: Sequence[int], position: int, logits: str = "none") -> None:
        if position == 0:  # another text begins
            self.context, self.tail = self._exact.context, None
            self.context.clear()
            self._tokens = []
        if position == len(self._tokens):
            self._tokens += tokens
        super().read(tokens, position, logits)

    def settle(self) -> None:
        """Prune.

        Raises:
            StateError: if the state of this model cannot be pruned.
            EngineError: if llama.cpp refuses it.
        """
        from quantize.buffers import allocate
        from quantize.state import read_state
        from quantize.transcode import transcode, transcoded_size

        data = allocate(self.context.state_size())
        state = read_state(data[: self.context.save_state(data)])
        out = self._pruned(state)
        if self._small is not None:
            pruned = read_state(out)
            types = self._small.context.type_k, self._small.context.type_v
            out = allocate(transcoded_size(pruned, self.bench.geometry, *types))
            to = self._small.context.centring
            transcode(pruned, self.bench.geometry, *types, out, centring=to)
            self.context, self.tail = self._small.context, self._small.tail
        self.context.clear()
        if not self.context.load_state(out):
            raise StateError("llama.cpp did not take the pruned state.")
        if self.tail is not None:
            fill_window(self.tail, pruned, read_state(out), self.bench.geometry)

    def _pruned(self, state: SavedState) -> NDArray[np.uint8]:
        from quantize.buffers import allocate
        from quantize.model_ropes import ropes_of
        from quantize.prune.observe import REQUEST, Text, extra_cells, observe, watching_context
        from quantize.prune.policy import policy
        from quantize.prune.prune import plan_prune, write_pruned
        from quantize.prune.selection import Request

        bench, chosen = self.bench, policy(self._setting.policy)
        observed = None
        if chosen.needs_kernel:
            text = Text(self._tokens, 0, bench.model.tokenize(f"\n\n{REQUEST}\n\n"))
            n_ctx = state.n_cells + extra_cells(chosen.observation, text)
            with watching_context(bench.model, n_ctx, 1, 1, bench.n_threads) as (context, watched):
                if not context.load_state(state.data):
                    raise StateError("llama.cpp did not take a copy of the cache.")
                n_layer = len(bench.geometry.parts[0])
                observed = observe(context, watched, chosen.observation, text, state.n_cells, n_layer)
        request = Request(self._setting.keep, per_head=not self._setting.whole)
        ropes = ropes_of(bench.model, bench.geometry, self.context.n_ctx)[0]
        plan = plan_prune(state, bench.geometry, chosen, request, ropes=ropes, observed=observed)
        out = allocate(plan.size)
        write_pruned(state, bench.geometry, plan, out)
        return out

    def close(self) -> None:
        self._exact.close()
        if self._small is not None:
            self._small.close()


def fill_window(tail: Tail, exact: SavedState, loaded: SavedState, geometry: Geometry) -> None:
    """Give a tail the newest rows of the state that its context's state was made from.

    Args:
        exact: the state before the change of types.
        loaded: the one that the context has loaded.
    """
    from quantize.native.window import Layout, Source, gather

    rows = loaded.parts[0].k[0].type_id, loaded.parts[0].v[0].type_id
    n_valid = int(exact.positions().max()) + 1
    gather(tail.window, [Source(exact, None, n_valid)], exact, Layout.plain(geometry), *rows).fill(
        tail, loaded
    )
