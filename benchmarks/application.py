"""Generation in the chat itself, drawing and all, against a bare llama-cpp-python loop, in one run.

    python -m benchmarks.application [--model builtin] [--rounds 7] [--all-threads] [--json]

The program runs in a terminal of 140x40 and writes replies; the same replies (same prompt, same
samplers, same seeds) are written by the bare loop of ``benchmarks.generation``, in turns, both with the
attention of llama.cpp. The speed of the program is what the store keeps about each reply.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from time import sleep

import psutil

from app.engine.threads import default_threads
from app.store.store import Store
from benchmarks.generation import MAX_TOKENS, TURNS, WANTED, Bare, sampling
from benchmarks.terminal import Terminal
from models.resolve import resolve

SHORTEST = 100
"""Replies with fewer tokens say little about speed."""


class Program:
    """``stretch`` with the sampling of ``benchmarks.generation``."""

    def __init__(self, home: Path, model: str, *, adapt: bool) -> None:
        s = sampling(1)
        settings = home / "config" / "settings.toml"
        settings.parent.mkdir(parents=True)
        settings.write_text(
            f"temperature = {s.temperature}\ntop_k = {s.top_k}\ntop_p = {s.top_p}\nmin_p = {s.min_p}\n"
            f"repeat_penalty = {s.repeat_penalty}\nmax_tokens = {MAX_TOKENS}\n"
            f"adapt_threads = {str(adapt).lower()}\n"
        )
        self._terminal = Terminal(home, [model])
        self._terminal.wait_for("ready")
        self._process = psutil.Process(self._terminal.process.pid)
        self._store = Store(next(home.rglob("*.sqlite3")))
        self._n_replies = 0

    def reply(self, seed: int) -> tuple[int, float, float]:
        """Tokens after the first, the seconds that they took, and processor seconds of the interface."""
        self._terminal.press("\x0e")
        sleep(0.3)
        self._terminal.press(f"/set seed {seed}\r")
        sleep(0.3)
        before = self._process.cpu_times()
        self._terminal.press(TURNS[0].content + "\r")
        while True:
            sleep(0.1)
            newest = max(self._store.conversations(), key=lambda c: c.id, default=None)
            if newest is None or newest.n_messages < 2 or newest.id <= self._n_replies:
                continue
            figures = self._store.branch(newest.id)[-1].figures
            if figures.n_generated:
                break
        self._n_replies = newest.id
        after = self._process.cpu_times()
        cpu = after.user + after.system - before.user - before.system
        return figures.n_generated - 1, figures.generate_s, cpu

    def close(self) -> None:
        self._store.close()
        self._terminal.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--all-threads", action="store_true", help="never fewer threads beside other programs"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.environ["STRETCH_KERNEL"] = "stock"
    bare = Bare(resolve(args.model), default_threads())
    with tempfile.TemporaryDirectory() as home:
        program = Program(Path(home), args.model, adapt=not args.all_threads)
        pairs, seed = [], 0
        while len(pairs) < args.rounds:
            seed += 1
            n, seconds, cpu = program.reply(seed)
            n_bare, bare_seconds, _ = bare.reply(seed)
            if min(n, n_bare) >= SHORTEST:
                pairs.append((n / seconds, n_bare / bare_seconds, cpu / seconds))
        program.close()
    result = {
        "application_tps": statistics.median(p[0] for p in pairs),
        "bare_tps": statistics.median(p[1] for p in pairs),
        "ratio": statistics.median(p[0] / p[1] for p in pairs),
        "interface_cores": statistics.median(p[2] for p in pairs),
    }
    if args.json:
        print(json.dumps(result))
        return
    print(f"{args.model}, {default_threads()} threads, {len(pairs)} replies")
    print(f"application {result['application_tps']:7.1f} t/s\nbare        {result['bare_tps']:7.1f} t/s")
    print(f"ratio {result['ratio']:.3f} (at least {WANTED} wanted)")
    print(f"the interface takes {result['interface_cores']:.0%} of one core")


if __name__ == "__main__":
    main()
