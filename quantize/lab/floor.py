"""The noise floor: the KLD that a change of the cache makes which is too small to mean anything.

Weights of few bits are multiplied with activations that are rounded to 8 bits: any change of K or V, however
small, flips some of these roundings, and the answers change by an amount that hardly depends on the size of
the change. A setting whose KLD is no larger has shown no loss; two settings that differ by less have shown no
difference. It is measured for each model and text: half of the tokens are read into an f16 cache, K and V are
changed by half a rounding step of f16, and the answers to the other half are compared with those without the
change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantize.buffers import allocate
from quantize.errors import StateError
from quantize.lab.divergence import Divergence, Summary, add_all
from quantize.lab.setting import REFERENCE
from quantize.state import SavedState, read_state

if TYPE_CHECKING:
    from quantize.lab.subject import Workbench

NOISE = 2.5e-4
"""Standard deviation of the change, relative to each value: about half a rounding step of f16."""
MOST_TOKENS = 2048
"""Of a longer text the beginning is read: the floor needs no more."""
_F16 = 1


def measure_floor(
    bench: Workbench,
    tokens: Sequence[int],
    *,
    batch: int,
    on_progress: Callable[[int], None] = lambda _n: None,
) -> Summary:
    """The KLD that rounding noise on K and V of the first half makes in the second.

    Args:
        tokens: at least 4.
        batch: tokens per batch.
        on_progress: called with the tokens that were read so far, of one and a half times as many.

    Raises:
        StateError: if nothing of this model's memory can be changed so.
        EngineError: if llama.cpp cannot read the text.
    """
    n_prompt, n = len(tokens) // 2, len(tokens)
    sizes = {"n_ctx": n, "n_batch": batch, "n_outputs": batch}
    changed = Divergence()
    with REFERENCE.open(bench, **sizes) as exact, REFERENCE.open(bench, **sizes) as noisy:
        for first in range(0, n_prompt, batch):
            exact.read(tokens[first : min(first + batch, n_prompt)], first)
            on_progress(first)
        data = allocate(exact.context.state_size())
        state = read_state(data[: exact.context.save_state(data)])
        add_noise(state, NOISE)
        if not noisy.context.load_state(state.data):
            raise StateError("llama.cpp did not take a changed copy of the cache.")
        for first in range(n_prompt, n - 1, batch):  # nothing follows the last token
            end = min(first + batch, n - 1)
            exact.read(tokens[first:end], first, "all")
            noisy.read(tokens[first:end], first, "all")
            pair = exact.logits(end - first), noisy.logits(end - first)
            add_all(pair[0], pair[1:], tokens[first + 1 : end + 1], [changed], Divergence())
            on_progress(n_prompt + 2 * (end - n_prompt))
    return changed.summary()


def add_noise(state: SavedState, size: float) -> None:
    """Change K and V of a state of f16 in place, by normal noise of ``size`` times each value. The same state
    gets the same noise.

    Raises:
        StateError: if it holds none.
    """
    rows = [r for part in state.parts for r in (*part.k, *part.v) if r.type_id == _F16 and r.size]
    if not rows:
        raise StateError("This model keeps no K and V that could be changed.")
    rng = np.random.default_rng(1)
    for one in rows:
        values: NDArray[np.float16] = state.data[one.offset : one.offset + one.size].view(np.float16)
        noise = rng.standard_normal(values.size, np.float32)
        values[:] = (values.astype(np.float32) * (1 + np.float32(size) * noise)).astype(np.float16)
