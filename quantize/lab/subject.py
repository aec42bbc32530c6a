"""A loaded model to measure on, and a cache under measurement."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from quantize.cache_types import SINKS
from quantize.centring_store import CentringStore
from quantize.errors import EngineError, StretchError
from quantize.lab.footprint import Footprint
from quantize.lab.opening import Opening
from quantize.llama import Context, Model
from quantize.native import NativeStatus, attention, register_types
from quantize.native.attention import AttentionStatus, Kernel
from quantize.native.tail import Tail


class Workbench:
    """A loaded model. Registers the native types and the attention kernel before anything is opened."""

    def __init__(self, opening: Opening, model: Model | None = None) -> None:
        """Load the model.

        Args:
            model: one that is loaded already; it stays open when the bench is closed.

        Raises:
            ModelFileError: if llama.cpp does not load it.
        """
        self.native: NativeStatus = register_types()
        self.attention: AttentionStatus = attention.enable()
        self.opening = opening
        self.geometry = opening.geometry
        self.mla = opening.mla
        self.n_threads = opening.n_threads
        self._owns = model is None
        self.model = model or Model(
            Path(opening.path), repack=opening.repack, n_gpu_layers=opening.n_gpu_layers
        )
        if model is None:
            folder = Path(opening.calibrations) if opening.calibrations else None
            store = CentringStore(self.model, self.geometry, folder, self.n_threads)
            if not store.calibrated:
                with suppress(StretchError):  # as good as its weights tell
                    store.calibrate()

    @property
    def head_dims_k(self) -> set[int]:
        """Sizes of the heads of K."""
        return {h.head_dim_k for part in self.geometry.parts for h in part} or {256}

    @property
    def head_dims_v(self) -> set[int]:
        """Sizes of the heads of V."""
        return {h.head_dim_v for part in self.geometry.parts for h in part} or {256}

    @property
    def plain_cache(self) -> bool:
        """Whether every layer keeps every token, so that cell i holds token i and nothing else is kept."""
        handle = self.model.handle
        return (
            L.llama_model_n_swa(handle) == 0
            and not L.llama_model_is_recurrent(handle)
            and not L.llama_model_is_hybrid(handle)
        )

    def open(
        self,
        type_k: int,
        type_v: int,
        *,
        tail: int = 0,
        n_ctx: int,
        n_batch: int,
        n_outputs: int = 1,
        kernel: Kernel = "own",
    ) -> Subject:
        """An empty cache of these ggml types.

        Args:
            n_outputs: most tokens of one batch whose logits are asked for.
            kernel: ``stock`` keeps the own kernel away from it.

        Raises:
            EngineError: if llama.cpp does not make it.
        """
        attention.use(kernel)
        kept = Tail(tail, SINKS) if tail else None
        with kept or nullcontext():
            context = Context(
                self.model,
                n_ctx=n_ctx,
                type_k=type_k,
                type_v=type_v,
                n_threads=self.n_threads,
                n_batch=n_batch,
                n_ubatch=n_batch,
                n_outputs_max=max(n_outputs, 1),
            )
        return Subject(self, context, kept, kernel)

    def close(self) -> None:
        """Free the model. Close every subject first."""
        if self._owns:
            self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Subject:
    """A cache that is read into. One sequence, from position 0 on."""

    def __init__(
        self, bench: Workbench, context: Context, tail: Tail | None = None, kernel: Kernel = "own"
    ) -> None:
        self.bench = bench
        self.context = context
        self.tail = tail
        self.own_kernel = False
        """Whether any of its attention ran in the own kernel."""
        self._allowed = kernel

    def read(self, tokens: Sequence[int], position: int, logits: str = "none") -> None:
        """Read ``tokens`` (any number of them) from ``position`` on.

        Args:
            logits: ``none``, ``last``, or ``all`` (then at most one batch of tokens).

        Raises:
            EngineError: if llama.cpp cannot, or was told to stop.
        """
        n_batch = self.context.n_batch
        for first in range(0, len(tokens), n_batch):
            chunk = tokens[first : first + n_batch]
            last = first + n_batch >= len(tokens)
            wanted = logits if last or logits == "all" else "none"
            code = self.decode(chunk, position + first, wanted)
            if code:
                why = {1: "there is no room in the cache", 2: "it was stopped"}.get(code, f"code {code}")
                raise EngineError(f"llama.cpp could not read the text at token {position + first}: {why}.")

    def decode(self, tokens: Sequence[int], position: int, logits: Sequence[int] | str) -> int:
        """Read at most one batch, as ``Context.decode`` does, and return its code."""
        attention.use(self._allowed)
        before = attention.counters().attention
        code = self.context.decode(tokens, position, logits=logits)
        self.own_kernel |= attention.counters().attention > before
        return code

    def logits(self, n: int) -> NDArray[np.float32]:
        """What the ``n`` tokens of the newest batch gave, read with ``logits="all"``.

        Shape (n, n_vocab); a view that the next ``read`` overwrites.
        """
        return self.context.all_logits(n)

    def settle(self) -> None:
        """Everything of the prompt was read. A setting that compresses what is there does it now.

        Raises:
            StretchError: if that cannot be done; the setting has failed then.
        """

    def replace(self, context: Context) -> None:
        """Go on with another cache, which holds what ``settle`` made; the one before is freed."""
        before, self.context = self.context, context
        before.close()

    @property
    def footprint(self) -> Footprint | None:
        """What the prompt takes, where that is known only after ``settle``."""
        return None

    @property
    def kernel(self) -> str:
        """``own`` or ``stock``: what computed its attention."""
        return "own" if self.own_kernel else "stock"

    def close(self) -> None:
        """Free the cache."""
        self.context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
