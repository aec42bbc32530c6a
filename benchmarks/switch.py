"""How long a change of the cache type takes, for every ordered pair of stock types.

    python -m benchmarks.switch [MODEL] [--tokens 4000] [--repeats 5] [--types f16,q8_0,...] [--json FILE]

One switch is all that a conversation waits for: save the state, transcode it, create the new
context on the loaded model, load the state and free the old context. K and V have the same type.
The prefill that it replaces is timed in the same run, with an f16 cache. The bound is 5% of it or
0.3 s, whichever is larger.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from math import gcd
from pathlib import Path

import numpy as np

from models.geometry import read_shape
from models.header import read_header
from models.resolve import resolve
from quantize.buffers import allocate
from quantize.cache_types import CACHE_TYPES, cache_type
from quantize.geometry import Geometry
from quantize.llama import Context, Model, send_log_to
from quantize.state import SavedState, read_state
from quantize.transcode import default_threads, transcode, transcoded_size

F16 = 1


def save(context: Context) -> SavedState:
    """The state of a context's conversation."""
    data = allocate(context.state_size())
    return read_state(data[: context.save_state(data)])


def rewritten(state: SavedState, geometry: Geometry, type_id: int) -> SavedState:
    """``state`` with K and V of another type."""
    out = allocate(transcoded_size(state, geometry, type_id, type_id))
    transcode(state, geometry, type_id, type_id, out)
    return read_state(out)


class Bench:
    """One model with one conversation."""

    def __init__(self, model: Model, geometry: Geometry, n_tokens: int, n_threads: int) -> None:
        self.model = model
        self.geometry = geometry
        self.n_tokens = n_tokens
        self.n_threads = n_threads
        self.tokens = [int(t) for t in np.random.default_rng(0).integers(0, model.n_vocab, n_tokens)]

    def context(self, type_id: int) -> Context:
        """An empty context that has room for the conversation."""
        return Context(
            self.model, n_ctx=self.n_tokens + 96, type_k=type_id, type_v=type_id, n_threads=self.n_threads
        )

    def prefill(self) -> tuple[float, SavedState]:
        """Seconds that reading the conversation takes with an f16 cache, and its state."""
        with self.context(F16) as context:
            start = time.perf_counter()
            for first in range(0, self.n_tokens, context.n_batch):
                chunk = self.tokens[first : first + context.n_batch]
                if context.decode(chunk, first, logits="none"):
                    sys.exit("llama.cpp could not read the conversation.")
            return time.perf_counter() - start, save(context)

    def switch(self, old: SavedState, old_type: int, new_type: int) -> tuple[float, float]:
        """Seconds of one switch, and of the transcoding in it."""
        before = self.context(old_type)
        if not before.load_state(old.data):
            sys.exit("llama.cpp refused the state of the old type.")
        start = time.perf_counter()
        state = save(before)
        middle = time.perf_counter()
        made = rewritten(state, self.geometry, new_type)
        transcoded = time.perf_counter() - middle
        after = self.context(new_type)
        if not after.load_state(made.data):
            sys.exit("llama.cpp refused the transcoded state.")
        before.close()
        seconds = time.perf_counter() - start
        after.close()
        return seconds, transcoded


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="builtin")
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--types", default=",".join(t.name for t in CACHE_TYPES.values() if not t.native))
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    send_log_to(lambda _level, _text: None)
    path = resolve(args.model)
    shape = read_shape(read_header(path))
    names = args.types.split(",")
    ids = {n: cache_type(n).variant(gcd(shape.head_dim_k, shape.head_dim_v)).id for n in names}
    bench = Bench(Model(path), shape.geometry(), args.tokens, args.threads)
    prefill, f16 = bench.prefill()
    prefills = [prefill, *(bench.prefill()[0] for _ in range(2))]
    prefill = statistics.median(prefills)
    bound = max(0.05 * prefill, 0.3)
    print(f"{path.name}: {args.tokens} tokens, {args.threads} threads, median of {args.repeats}")
    print(f"prefill with f16 {prefill:.2f} s; bound {bound * 1000:.0f} ms")
    print("milliseconds per switch, from the row's type to the column's:")
    print(f"{'':8}" + "".join(f"{n:>8}" for n in names))
    table: dict[str, dict[str, float]] = {}
    shares: list[float] = []
    for old in names:
        state = rewritten(f16, bench.geometry, ids[old])
        table[old] = {}
        for new in names:
            runs = [bench.switch(state, ids[old], ids[new]) for _ in range(args.repeats)]
            table[old][new] = statistics.median(seconds for seconds, _ in runs)
            shares += [transcoded / seconds for seconds, transcoded in runs]
        print(f"{old:8}" + "".join(f"{table[old][n] * 1000:8.0f}" for n in names), flush=True)
    pairs = [(table[a][b], a, b) for a in names for b in names if a != b]
    slowest, a, b = max(pairs)
    print(f"slowest: {a} -> {b} {slowest * 1000:.0f} ms ({slowest / prefill:.1%} of the prefill)")
    print(f"median of all pairs {statistics.median(p[0] for p in pairs) * 1000:.0f} ms, ", end="")
    print(f"{statistics.median(shares):.0%} of it transcoding")
    print("within the bound" if slowest < bound else "NOT within the bound")
    if args.json:
        result = {"model": path.name, "tokens": args.tokens, "prefill_s": prefill, "switch_s": table}
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
