"""How long a stop takes, from the command to the closing event, at random moments.

python -m benchmarks.stopping [--model builtin] [--kv f16] [--rounds 20] [--threads 0] [--json]
"""

from __future__ import annotations

import argparse
import json
import queue
import random
import statistics
import tempfile
from pathlib import Path
from time import perf_counter, sleep

from app.engine.client import EngineClient
from app.engine.protocol import (
    Event,
    Finished,
    Forget,
    Generate,
    Load,
    Loaded,
    PrefillProgress,
    Sampling,
    Status,
    Stop,
    TextChunk,
    Turn,
)
from models.resolve import resolve
from quantize.cache_types import parse_pair

TEXT = "The cache holds a key and a value for every token that the model has read so far. "
WANTED = 0.050


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--kv", type=parse_pair, default=parse_pair("f16"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    events: queue.SimpleQueue[tuple[float, Event]] = queue.SimpleQueue()
    log = Path(tempfile.mkdtemp(prefix="stretch-")) / "engine.log"
    client = EngineClient(lambda event: events.put((perf_counter(), event)), log)

    def until(*kinds: type[Event]) -> tuple[float, Event]:
        while True:
            at, event = events.get()
            if isinstance(event, kinds) and not (isinstance(event, Status) and event.id == 0):
                return at, event

    client.start()
    kv = args.kv
    client.send(
        Load(
            client.next_id(),
            str(resolve(args.model)),
            8192,
            kv.k.name,
            kv.v.name,
            n_threads=args.threads,
            accept_loss=True,
        )
    )
    until(Loaded)
    chance = random.Random(1)
    hot = Sampling(temperature=3.0, top_k=0, top_p=1, min_p=0)
    found: dict[str, list[float]] = {}
    for phase, n, first in (("prefill", 380, PrefillProgress), ("writing", 2, TextChunk)):
        for _ in range(args.rounds):
            client.send(Forget(client.next_id()))
            until(Status)
            client.send(Generate(client.next_id(), (Turn("user", TEXT * n),), hot))
            until(first)
            sleep(chance.uniform(0, 0.5 if phase == "prefill" else 0.05))
            sent = perf_counter()
            client.send(Stop(client.next_id()))
            at, finished = until(Finished)
            if isinstance(finished, Finished) and finished.reason == "stopped":
                found.setdefault(phase, []).append(at - sent)
    client.close()
    result = {
        phase: {"n": len(t), "median_ms": 1e3 * statistics.median(t), "worst_ms": 1e3 * max(t)}
        for phase, t in found.items()
    }
    if args.json:
        print(json.dumps(result))
        return
    for phase, r in result.items():
        print(
            f"{phase}: {r['n']} stops, median {r['median_ms']:.1f} ms, worst {r['worst_ms']:.1f} ms "
            f"(at most {WANTED * 1e3:.0f} wanted)"
        )


if __name__ == "__main__":
    main()
