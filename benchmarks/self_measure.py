"""What each cache setting costs on a model, as the chat measures it at idle, and what measuring takes.

``python -m benchmarks.self_measure model.gguf`` prints the estimate from the file, the measured loss and the
processor time.
"""

from __future__ import annotations

import argparse
import queue
import tempfile
from pathlib import Path
from typing import TypeVar

import psutil

from app import paths
from app.engine.client import EngineClient
from app.engine.protocol import Died, Event, Failed, Load, Loaded, MeasureLoss, Status
from models.resolve import resolve

E = TypeVar("E", bound=Event)


def main() -> None:
    """Measure one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="builtin")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def until(kind: type[E]) -> E:
        while not isinstance(event := events.get(), kind):
            if isinstance(event, Died | Failed):
                raise SystemExit(str(event))
        return event

    with tempfile.TemporaryDirectory() as folder:
        client = EngineClient(events.put, Path(folder) / "engine.log")
        client.start()
        path = str(resolve(args.model, paths.models_dir()))
        client.send(Load(client.next_id(), path, 2048, n_threads=args.threads, measure_loss=True))
        until(Loaded)
        process = psutil.Process(client.pid)
        began = sum(process.cpu_times()[:2])
        client.send(MeasureLoss(client.next_id()))
        status = until(Status)
        guesses = {row.name: row.loss for row in status.rows}
        while not all(row.loss.measured for row in status.rows if not row.refused):
            status = until(Status)
        seconds = sum(process.cpu_times()[:2]) - began
        client.close()
    print(f"{seconds:.1f} s of processor time, floor {status.rows[-1].loss.floor:.4f}")
    print(f"{'setting':<14} {'KiB/token':>9}  {'KLD':>7} {'top-1':>6}  {'verdict':<17} estimate")
    for row in status.rows:
        loss, guess = row.loss, guesses[row.name]
        figures = f"{row.name:<14} {row.kib:>9}  {loss.kld:7.4f} {loss.top1:6.1%}  {loss.verdict.words:<17}"
        print(f"{figures} {guess.verdict.words} ({guess.kld:.4f})")


if __name__ == "__main__":
    main()
