"""K of a text that was read exactly, rewritten in a compressed type: KLD of what follows.

    python -m benchmarks.centring_rewritten MODEL [--kv tq3,tq2] [--tokens 1024] [--after 256]

The text is read with f16. Then only K goes through the type and comes back, the first four tokens stay
exact, and the tokens that follow are read with f16: what is measured is what K alone loses in the cache. The
constant of K comes from another text.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.centring import kld
from models.geometry import read_shape
from models.header import read_header
from quantize import centrings
from quantize.cache_types import SINKS, parse_pair
from quantize.centring_store import builtin_text
from quantize.lab.opening import Opening
from quantize.lab.own_loss import log_probabilities
from quantize.lab.subject import Workbench
from quantize.lab.switching import rewritten
from quantize.lab.text import built_in_text
from quantize.llama import Model, send_log_to
from quantize.state import SavedState, read_state

_F16 = 1


def followed(bench: Workbench, state: NDArray[np.uint8], text: list[int], n: int) -> NDArray[np.float32]:
    """Log probabilities after each token of ``text`` from ``n`` on, read behind an f16 ``state``."""
    after = text[n:]
    with bench.open(_F16, _F16, n_ctx=len(text) + 1, n_batch=len(after), n_outputs=len(after)) as subject:
        assert subject.context.load_state(state)
        subject.read(after, n, logits="all")
        return log_probabilities(subject.logits(len(after))).copy()


def with_first(changed: SavedState, exact: SavedState) -> None:
    """Put the first tokens' K of ``exact`` into ``changed``, both f16."""
    for p, part in enumerate(changed.parts):
        first = np.flatnonzero(changed.positions(p) < SINKS)
        for rows, before in zip(part.k, exact.parts[p].k, strict=True):
            changed.rows(rows)[first] = exact.rows(before)[first]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--kv", default="tq3,tq2")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--after", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    send_log_to(lambda _level, _text: None)
    geometry = read_shape(read_header(args.model)).geometry()
    n = args.tokens
    with Workbench(Opening(str(args.model), geometry, n_threads=args.threads), Model(args.model)) as bench:
        model = bench.model
        text = model.tokenize(built_in_text()[: 16 * (n + args.after)], add_special=True)[: n + args.after]
        other = model.tokenize(builtin_text(), add_special=True)[: centrings.TEXT_TOKENS]
        with bench.open(_F16, _F16, n_ctx=len(text) + 1, n_batch=256) as subject:
            subject.read(text[:n], 0)
            data = np.zeros(subject.context.state_size(), np.uint8)
            exact = read_state(data[: subject.context.save_state(data)])
        reference = followed(bench, exact.data, text, n)
        found = centrings.from_text(model, geometry, other, args.threads)
        for name, centring in (("whole", None), ("head", found)):
            model.centring = centring
            for label in args.kv.split(","):
                types = parse_pair(f"{label}/f16").type_ids(bench.head_dims_k, bench.head_dims_v)
                with bench.open(*types, n_ctx=n + 1, n_batch=256) as small:
                    packed = read_state(rewritten(bench, exact, small.context))
                with bench.open(_F16, _F16, n_ctx=n + 1, n_batch=256) as back:
                    changed = read_state(rewritten(bench, packed, back.context))
                with_first(changed, exact)
                loss, same = kld(reference, followed(bench, changed.data, text, n))
                print(f"{args.model.name} K {label}, {name:5}: KLD {loss:.4f}, {same:.1%}", flush=True)
        model.close()


if __name__ == "__main__":
    main()
