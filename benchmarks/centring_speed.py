"""What it takes to put the constant of K back: speed with K stored without it / with K stored as it is.

    python -m benchmarks.centring_speed MODEL [--kv tq3] [--depths 512,6000] [--rounds 7]

Two caches hold the same text up to a depth. In turn each reads ``--batch`` more tokens and writes
``--write``, and forgets them again; medians of the ratios of neighbouring turns.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from time import perf_counter

from models.geometry import read_shape
from models.header import read_header
from quantize.cache_types import parse_pair
from quantize.lab.opening import Opening
from quantize.lab.subject import Subject, Workbench
from quantize.lab.text import built_in_text
from quantize.llama import send_log_to


def turn(subject: Subject, tokens: list[int], depth: int, n_batch: int, n_write: int) -> tuple[float, float]:
    """Seconds to read ``n_batch`` tokens at ``depth``, and to write ``n_write``."""
    context = subject.context
    began = perf_counter()
    subject.read(tokens[depth : depth + n_batch], depth, logits="last")
    read = perf_counter() - began
    context.remove(depth)
    began = perf_counter()
    for i in range(n_write):
        subject.read(tokens[depth + i : depth + i + 1], depth + i, logits="last")
    written = perf_counter() - began
    context.remove(depth)
    return read, written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--kv", default="tq3")
    parser.add_argument("--depths", default="512,6000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--write", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    send_log_to(lambda _level, _text: None)
    geometry = read_shape(read_header(args.model)).geometry()
    with Workbench(Opening(str(args.model), geometry, n_threads=args.threads)) as bench:
        centring = bench.model.centring
        assert centring is not None, "K of this model is stored whole"
        types = parse_pair(args.kv).type_ids(bench.head_dims_k, bench.head_dims_v)
        for depth in map(int, args.depths.split(",")):
            n = depth + args.batch
            text = bench.model.tokenize(built_in_text()[: 16 * n], add_special=True)
            text = (text * (n // len(text) + 1))[:n]
            subjects: list[Subject] = []
            for each in (centring, None):
                bench.model.centring = each
                subjects.append(bench.open(*types, n_ctx=n + 1, n_batch=512))
                subjects[-1].read(text[:depth], 0)
            bench.model.centring = centring
            ratios: list[tuple[float, float]] = []
            for _ in range(args.rounds):
                with_it, without = (turn(s, text, depth, args.batch, args.write) for s in subjects)
                ratios.append((without[0] / with_it[0], without[1] / with_it[1]))
            for subject in subjects:
                subject.close()
            reading, writing = (median(r) for r in zip(*ratios, strict=True))
            print(
                f"{args.model.stem} {args.kv} at {depth:,}: reading {reading:.3f}, writing {writing:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
