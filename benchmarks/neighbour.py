"""Beside a busy program: an engine that adapts its threads, one that does not, and one with one thread.

    python -m benchmarks.neighbour [--busy 1] [--rounds 5] [--threads 0] [--tokens 1400] [--model builtin]

The three write the same replies and read the same prompt, in turns, beside programs that compute all the
time (``--busy 0``: beside none). These are started when the models are loaded, so the first reply of each
engine shows how long it takes to notice them; it is reported by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import sleep

from app.engine.protocol import Stop, Turn
from app.engine.threads import default_threads
from benchmarks.generation import Engine
from models.resolve import resolve

LONGEST = 8.0
"""Seconds of a reply: two threads beside a busy program hardly get on."""

FILLER = "The cache holds a key and a value for every token that the model has read so far. "


@dataclass
class Rates:
    """Tokens per second of one engine: medians over the rounds."""

    first: float
    writing: float
    reading: float


@contextmanager
def busy(n: int) -> Iterator[None]:
    """Beside ``n`` programs that compute all the time."""
    command = [sys.executable, "-c", "while True: pass"]
    programs = [subprocess.Popen(command) for _ in range(n)]
    try:
        yield
    finally:
        for each in programs:
            each.kill()
            each.wait()


def ask(engine: Engine) -> None:
    """For figures twice, as the interface does every two seconds: else the engine takes what the other
    engines computed since its last reply for the load of now."""
    engine.ask()
    sleep(0.3)
    engine.ask()


def write(engine: Engine, seed: int) -> float:
    """Tokens per second of one reply; it is stopped after ``LONGEST`` seconds."""
    ask(engine)
    client = engine.client
    timer = threading.Timer(LONGEST, lambda: client.send(Stop(client.next_id())))
    timer.start()
    try:
        n, seconds, _ = engine.reply(seed)
    finally:
        timer.cancel()
    return n / seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--busy", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=1400, help="of the prompt that is read")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    path, n_threads = resolve(args.model), args.threads or default_threads()
    os.environ["STRETCH_KERNEL"] = "stock"
    engines = {
        "adaptive": Engine(path, n_threads),
        "fixed": Engine(path, n_threads, adapt=False),
        "one": Engine(path, 1),
    }
    prompt = (Turn("user", FILLER * (args.tokens // 18)),)
    first: dict[str, float] = {}
    writing: dict[str, list[float]] = {name: [] for name in engines}
    reading: dict[str, list[float]] = {name: [] for name in engines}
    with busy(args.busy):
        for number in range(args.rounds + 1):
            for name, engine in engines.items():
                rate = write(engine, number)
                if number:
                    writing[name].append(rate)
                else:
                    first[name] = rate
            for name, engine in engines.items():
                ask(engine)
                reading[name].append(engine.read(prompt))
    for engine in engines.values():
        engine.client.close()
    median = statistics.median
    rates = {name: Rates(first[name], median(writing[name]), median(reading[name])) for name in engines}
    if args.json:
        print(json.dumps({name: asdict(each) for name, each in rates.items()}))
        return
    print(f"{args.model}, {n_threads} threads, {args.rounds} rounds, beside {args.busy} busy programs; t/s")
    for name, each in rates.items():
        print(f"{name:9} first {each.first:7.1f}  writing {each.writing:7.1f}  reading {each.reading:7.1f}")
    for name in ("fixed", "one"):
        for what, mine in (("writing", writing), ("reading", reading)):
            pairs = zip(mine["adaptive"], mine[name], strict=True)
            print(f"adaptive / {name}, {what}: {median(a / b for a, b in pairs):.3f}")


if __name__ == "__main__":
    main()
