"""How fast the attention kernel is, beside llama.cpp's own, for every cache type.

    python -m benchmarks.kernel [--model builtin,64,256] [--kv f16,q8_0,...] [--depth 512,8000]
                                [--window 256] [--only prefill|decode] [--repeats 5] [--threads 1,2,4]
                                [--clock wall|processor] [--json FILE]

Models: ``builtin`` (heads of 128, 2 query heads per KV head), ``64`` (heads of 64, 4 per KV head) and ``256``
(heads of 256, 8 per KV head), ``1.5b`` (as large as Qwen2.5-1.5B); all but the first have random weights and
are made when the benchmark starts. A path names a model of yours.

All settings are open at once and take turns: chunk by chunk of 512 tokens while the text is read, and a few
tokens each, again and again, while it is continued. So a machine that becomes slower meets all alike, and a
ratio is the median of the ratios of single turns (decode) or of whole texts (prefill). The first
setting is always f16 with the stock kernel. Up to a depth of 1,024 the stock kernel also runs every type.
With several depths the last column says how many GB of the cache each second of decoding reads: what a token
takes longer at this depth than at the first one, over the bytes that are read more. The line above the table
has what a plain read reaches with as many threads.

``--clock processor`` counts processor time: with one thread ratios then hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

from benchmarks.read_rate import plain_read
from models.geometry import read_shape
from models.header import read_header
from models.plan import Planner
from models.resolve import resolve
from quantize.lab.opening import Opening
from quantize.lab.setting import REFERENCE, Setting, parse_setting
from quantize.lab.subject import Subject, Workbench
from quantize.lab.text import built_in_text
from quantize.llama import send_log_to
from quantize.native import attention

CHUNK = 512
TURN = 8
"""Tokens that are decoded in one turn."""
SHALLOW = 1024
"""Up to here the stock kernel runs every type; deeper it would take minutes."""

MADE = {
    "64": {"n_layer": 4, "n_embd": 512, "n_head": 8, "n_head_kv": 2, "head_dim": 64, "n_ff": 1536},
    "1.5b": {"n_layer": 28, "n_embd": 1536, "n_head": 12, "n_head_kv": 2, "head_dim": 128, "n_ff": 8960},
    "256": {"n_layer": 3, "n_embd": 512, "n_head": 8, "n_head_kv": 1, "head_dim": 256, "n_ff": 1536},
}


@dataclass
class Runner:
    """One setting with one kernel."""

    setting: Setting
    kernel: attention.Kernel
    subject: Subject
    prefill: list[float] = field(default_factory=list)
    """Seconds of each repeat."""
    decode: list[float] = field(default_factory=list)
    """Seconds of each turn."""

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.setting.label} {self.kernel}"


@dataclass(frozen=True)
class Row:
    """One line of the table. Ratios are speeds: above 1 is faster than what it is compared with."""

    model: str
    n_threads: int
    depth: int
    setting: str
    kernel: str
    prefill_tps: float
    decode_tps: float
    prefill_vs_f16: float
    """Stock f16."""
    decode_vs_f16: float
    prefill_vs_stock: float | None
    """The stock kernel with the same types."""
    decode_vs_stock: float | None
    prefill_vs_plain: float | None
    """The own kernel with the same types and no window."""
    decode_vs_plain: float | None
    cache_bytes: float
    """That a token reads."""
    cache_gbps: float | None = None
    """GB of the cache that are read per second of decoding."""


def model_file(name: str, directory: Path) -> Path:
    """The file of a model; made if it is one of ``MADE``."""
    if name not in MADE:
        return resolve(name)
    from tests.synthetic.transformer import llama

    return llama(directory / f"{name}.gguf", n_vocab=4096, n_ctx=16384, weight_type="q8_0", **MADE[name])


def tokens_of(bench: Workbench, n: int) -> list[int]:
    """``n`` tokens of prose, from the beginning again where it is too short."""
    tokens: list[int] = bench.model.tokenize(built_in_text(), add_special=True, parse_special=False)
    return (tokens * (n // len(tokens) + 1))[:n]


def open_runner(
    bench: Workbench, stack: ExitStack, setting: Setting, kernel: attention.Kernel, n_ctx: int
) -> Runner | None:
    """A setting with its cache, or None (and a line) where the model cannot have it."""
    reason = setting.obstacle(bench)
    if reason:
        print(f"{setting.label}: {reason}", file=sys.stderr)
        return None
    type_k, type_v = setting.pair.type_ids(bench.head_dims_k, bench.head_dims_v)
    subject = bench.open(type_k, type_v, tail=setting.tail, n_ctx=n_ctx, n_batch=CHUNK, kernel=kernel)
    return Runner(setting, kernel, stack.enter_context(subject))


Clock = Callable[[], float]


def clock_of(args: argparse.Namespace) -> Clock:
    """The one that was asked for."""
    return process_time if args.clock == "processor" else perf_counter


def read_all(runners: Sequence[Runner], tokens: Sequence[int], repeat: int, clock: Clock) -> None:
    """Read the tokens with everyone, chunk by chunk, in an order that turns; append the seconds."""
    seconds = dict.fromkeys(range(len(runners)), 0.0)
    for i, first in enumerate(range(0, len(tokens), CHUNK)):
        for j in range(len(runners)):
            n = (j + i + repeat) % len(runners)
            began = clock()
            runners[n].subject.read(tokens[first : first + CHUNK], first, "last")
            seconds[n] += clock() - began
    for n, runner in enumerate(runners):
        runner.prefill.append(seconds[n])


def continue_all(
    runners: Sequence[Runner], tokens: Sequence[int], depth: int, turns: int, clock: Clock
) -> None:
    """Decode a few tokens with everyone, again and again."""
    for turn in range(turns):
        for j in range(len(runners)):
            runner = runners[(j + turn) % len(runners)]
            runner.subject.read(tokens[depth : depth + 1], depth, "last")  # to warm up: not timed
            began = clock()
            for i in range(depth + 1, depth + 1 + TURN):
                runner.subject.read(tokens[i : i + 1], i, "last")
            runner.decode.append(clock() - began)
            runner.subject.context.remove(depth)


def measure(
    bench: Workbench, settings: Sequence[Setting], depth: int, args: argparse.Namespace
) -> list[Runner]:
    """Everything at one depth."""
    tokens = tokens_of(bench, depth + TURN + 1)
    clock = clock_of(args)
    only = args.only
    with ExitStack() as stack:
        wanted: list[tuple[Setting, attention.Kernel]] = [(REFERENCE, "stock")]
        for setting in settings:
            if depth <= SHALLOW and not setting.tail and setting != REFERENCE:
                wanted.append((setting, "stock"))
            wanted.append((setting, "own"))
        opened = [open_runner(bench, stack, s, kernel, depth + TURN + 1) for s, kernel in wanted]
        runners = [r for r in opened if r is not None]
        rounds = args.repeats if only != "decode" else 1
        for repeat in range(rounds + 1):  # the first one warms up
            for runner in runners:
                runner.subject.context.clear()
            if repeat == 0 and only != "decode":
                read_all(runners, tokens[:CHUNK], repeat, clock)
            elif repeat > 0:
                read_all(runners, tokens[:depth], repeat, clock)
            for runner in runners if repeat == 0 else ():
                runner.prefill.clear()
        if only != "prefill":
            continue_all(runners, tokens, depth, args.turns, clock)
        for runner in runners:
            if runner.kernel == "own" and not runner.subject.own_kernel:
                print(f"{runner.name}: the stock kernel computed it", file=sys.stderr)
        return runners


def ratio(other: Sequence[float], own: Sequence[float]) -> float:
    """How many times as fast, turn by turn; nan without figures."""
    pairs = [a / b for a, b in zip(other, own, strict=True)]
    return median(pairs) if pairs else float("nan")


def with_read_rate(row: Row, first: Row | None) -> Row:
    """The row with what it reads per second, told by the first row of the same setting and kernel."""
    if first is None or not row.decode_tps > 0:
        return row
    longer = 1 / row.decode_tps - 1 / first.decode_tps
    rate = (row.cache_bytes - first.cache_bytes) / longer / 1e9 if longer > 0 else None
    return replace(row, cache_gbps=rate)


def rows_of(
    planner: Planner, model: str, n_threads: int, depth: int, runners: Sequence[Runner]
) -> Iterator[Row]:
    """The figures of one depth."""

    def find(setting: Setting, kernel: str) -> Runner | None:
        return next((r for r in runners if (r.setting, r.kernel) == (setting, kernel)), None)

    f16 = runners[0]
    for r in runners:
        stock = find(r.setting, "stock") if r.kernel == "own" else None
        plain = find(Setting(r.setting.pair), "own") if r.setting.tail else None
        yield Row(
            model,
            n_threads,
            depth,
            r.setting.label,
            r.kernel,
            depth / median(r.prefill),
            TURN / median(r.decode) if r.decode else float("nan"),
            ratio(f16.prefill, r.prefill),
            ratio(f16.decode, r.decode),
            ratio(stock.prefill, r.prefill) if stock else None,
            ratio(stock.decode, r.decode) if stock else None,
            ratio(plain.prefill, r.prefill) if plain else None,
            ratio(plain.decode, r.decode) if plain else None,
            depth * planner.bytes_per_token(r.setting.pair),
        )


def line(row: Row) -> str:
    """A row for people."""

    def number(x: float | None) -> str:
        return f"{x:8.2f}" if x is not None else f"{'':8}"

    figures = (row.prefill_vs_f16, row.prefill_vs_stock, row.prefill_vs_plain)
    more = (row.decode_vs_f16, row.decode_vs_stock, row.decode_vs_plain)
    return (
        f"{row.model:8}{row.n_threads:3}{row.depth:6} {row.setting:10} {row.kernel:6}"
        f"{row.prefill_tps:8.0f}{''.join(map(number, figures))}  "
        f"{row.decode_tps:8.1f}{''.join(map(number, more))}{number(row.cache_gbps)}"
    )


HEAD = " " * 34 + "".join(
    f"{name:>8}{'/f16':>8}{'/stock':>8}{'/plain':>8}{gap}"
    for name, gap in (("prefill", "  "), ("decode", "    GB/s"))
)


def measure_all(
    path: Path, name: str, n_threads: int, settings: Sequence[Setting], args: argparse.Namespace
) -> list[Row]:
    """The rows of one model with one number of threads; they are printed as they come."""
    rows: list[Row] = []
    header = read_header(path)
    planner = Planner(header)
    with Workbench(Opening(str(path), read_shape(header).geometry(), n_threads=n_threads)) as bench:
        depths = [int(d) for d in args.depth.split(",")]
        size = round(depths[-1] * planner.bytes_per_token(REFERENCE.pair))
        print(
            f"{n_threads} threads, {bench.attention.isa}; a plain read of {size / 1e6:.0f} MB: "
            f"{plain_read(size, n_threads, clock_of(args)) / 1e9:.1f} GB/s; ratios of speeds\n{HEAD}",
            flush=True,
        )
        for depth in depths:
            done = measure(bench, settings, depth, args)
            for row in rows_of(planner, name, n_threads, depth, done):
                same = (r for r in rows if (r.setting, r.kernel) == (row.setting, row.kernel))
                rows.append(with_read_rate(row, next(same, None)))
                print(line(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="builtin,64,256")
    parser.add_argument("--kv", default="f16,q8_0,q4_0,tq4,tq3,tq2")
    parser.add_argument("--depth", default="512,8000")
    parser.add_argument("--window", type=int, default=0, help="also each type with so many exact tokens")
    parser.add_argument("--only", choices=("prefill", "decode"), default="")
    parser.add_argument("--repeats", type=int, default=5, help="texts that are read")
    parser.add_argument("--turns", type=int, default=15, help="turns of 8 tokens that are decoded")
    parser.add_argument("--threads", default="2", help="one number or several")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    send_log_to(lambda _level, _text: None)
    settings = [parse_setting(text) for text in args.kv.split(",")]
    if args.window:
        windows = [Setting(s.pair, args.window) for s in settings if s != REFERENCE and not s.tail]
        settings = [x for s in settings for x in (s, *(w for w in windows if w.pair == s.pair))]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as directory:
        for name in args.model.split(","):
            path = model_file(name, Path(directory))
            for n_threads in (int(n) for n in args.threads.split(",")):
                rows += measure_all(
                    path, Path(name).stem if name not in MADE else name, n_threads, settings, args
                )
    if args.json:
        args.json.write_text(json.dumps([vars(row) | {} for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
