"""The whole run: ``python -m models.training.pipeline CORPUS OUT [--minutes 25]``.

Trains the dense model, the ternary one from it, and the laboratory's small one, one after the other within a
time, and exports each as soon as it is ready. Started again after an interruption it goes on where it was.
``OUT/status.txt`` holds one line about the present state, ``OUT/pipeline.log`` everything that was printed, and
``OUT/send/`` what is worth keeping, in files small enough to be fetched one by one (``cat NAME.part-* > NAME``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from models.training import card, curves
from models.training.config import RUNS, Run, trial
from models.training.status import say

EXPORTS = {"dense": "q8_0", "ternary": "tq2_0", "small": "q8_0"}
"""The models in the order of their training, and the type of their weights in the file."""
OVERHEAD_S = 90.0
"""Time of a run that is not training: reading the corpus, compiling, exporting."""
TRIES = 3
MEMORY = "OutOfMemoryError"


@dataclass(slots=True)
class State:
    """How far the pipeline is; kept in ``OUT/pipeline.json``."""

    path: Path
    used_s: float = 0.0
    """Time that all runs took, with their interruptions left out."""
    minutes: dict[str, float] = field(default_factory=dict)
    """Training time that was given to each run when it began: its schedule depends on it."""
    micro_tokens: dict[str, int] = field(default_factory=dict)
    """Runs that need smaller pieces than configured, because memory did not suffice."""
    done: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> State:
        """The state of an earlier start, or a new one."""
        return cls(path, **json.loads(path.read_text())) if path.exists() else cls(path)

    def save(self) -> None:
        """Write it so that a crash leaves the old one."""
        new = self.path.with_suffix(".tmp")
        kept = {name: getattr(self, name) for name in ("used_s", "minutes", "micro_tokens", "done")}
        new.write_text(json.dumps(kept))
        new.replace(self.path)


def share(runs: list[Run], left_s: float, overhead_s: float) -> float:
    """Minutes of training for the first of ``runs``, so that all of them fit into ``left_s`` seconds."""
    training = max(0.0, left_s - overhead_s * len(runs))
    return training / 60 * runs[0].minutes / sum(r.minutes for r in runs)


class Pipeline:
    """The runs of one command."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.out: Path = args.out
        self.out.mkdir(parents=True, exist_ok=True)
        self.state = State.load(self.out / "pipeline.json")
        self.log = (self.out / "pipeline.log").open("a")
        self.runs = {n: trial(RUNS[n]) if args.trial else RUNS[n] for n in EXPORTS if n in args.only}
        self.overhead_s = 5.0 if args.trial else OVERHEAD_S

    def run(self) -> None:
        """Everything that is not done yet."""
        for name, run in self.runs.items():
            if name in self.state.done:
                continue
            if name not in self.state.minutes:
                waiting = [r for n, r in self.runs.items() if n not in self.state.done]
                left_s = self.args.minutes * 60 - self.state.used_s
                self.state.minutes[name] = max(0.1, share(waiting, left_s, self.overhead_s))
                self.state.save()
            self._train(name, run)
            self._export(name)
            self.state.done.append(name)
            self.state.save()
        say(self.out, f"done: {', '.join(self.state.done)} in {self.state.used_s / 60:.1f} min")

    def _train(self, name: str, run: Run) -> None:
        for attempt in range(TRIES):
            micro = self.state.micro_tokens.get(name, run.micro_tokens)
            command = [sys.executable, "-m"]
            if self.args.processes > 1:
                command += [
                    "torch.distributed.run",
                    "--standalone",
                    "--nproc-per-node",
                    self.args.processes,
                    "-m",
                ]
            command += ["models.training.train", name, self.args.corpus, self.out]
            command += ["--minutes", str(self.state.minutes[name]), "--micro-tokens", str(micro)]
            command += ["--workers", str(self.args.workers // self.args.processes)]
            command += ["--trial"] * self.args.trial
            if self.args.start_from and run.start_from:
                command += ["--start-from", self.args.start_from]
            if self._call(command) == 0:
                return
            text = (self.out / "pipeline.log").read_text(errors="replace")[-20_000:]
            if MEMORY in text:
                self.state.micro_tokens[name] = micro // 2
                self.state.save()
            say(
                self.out,
                f"{name}: try {attempt + 1} of {TRIES} failed: {text.strip().splitlines()[-1][:200]}",
            )
        raise SystemExit(f"{name} failed {TRIES} times; see {self.out / 'pipeline.log'}.")

    def _export(self, name: str) -> None:
        say(self.out, f"{name}: exports")
        gguf = self.out / f"stretch-{name}-{EXPORTS[name]}.gguf"
        checkpoint = self.out / f"{name}.pt"
        command = [sys.executable, "-m", "models.training.export", checkpoint, gguf, "--to", EXPORTS[name]]
        if self._call([*command, "--name", card.TITLES[name]]) != 0:
            raise SystemExit(f"{name} could not be exported; see {self.out / 'pipeline.log'}.")
        (self.out / "curves.svg").write_text(curves.draw(curves.read(self.out)))
        (self.out / "figures.json").write_text(json.dumps(card.figures(self.out), indent=1) + "\n")
        (self.out / "MODEL.md").write_text(card.write(self.out, self.args.corpus))
        self._pack(gguf)

    def _pack(self, gguf: Path) -> None:
        """Put the file in parts into ``send/``, and one archive of everything that is text."""
        send = self.out / "send"
        send.mkdir(exist_ok=True)
        data, size = gguf.read_bytes(), int(self.args.part_mb * 1e6)
        for i in range(0, len(data), size):
            (send / f"{gguf.name}.part-{i // size}").write_bytes(data[i : i + size])
        with tarfile.open(send / "records.tar.gz", "w:gz") as archive:
            for path in sorted(self.out.iterdir()):
                if path.suffix in {".json", ".jsonl", ".svg", ".md", ".log"}:
                    archive.add(path, path.name)

    def _call(self, command: list[object]) -> int:
        """Run a part in a process of its own, so that a crash there cannot harm the next one."""
        last = time.monotonic()
        process = subprocess.Popen([str(c) for c in command], stdout=self.log, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    return process.wait(5)
                except subprocess.TimeoutExpired:
                    pass
                finally:
                    now = time.monotonic()
                    self.state.used_s += now - last
                    last = now
                    self.state.save()
        finally:
            if process.poll() is None:
                process.terminate()


def n_gpus() -> int:
    """How many processes can train together, at least one."""
    import torch

    return max(1, torch.cuda.device_count())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, help="time for everything (25; in a trial 1)")
    parser.add_argument("--only", nargs="+", choices=EXPORTS, default=list(EXPORTS))
    parser.add_argument("--start-from", help="a dense GGUF file that the ternary model begins with")
    parser.add_argument("--workers", type=int, default=max(0, (os.cpu_count() or 2) - 1))
    parser.add_argument("--processes", type=int, help="that train a model together (one a GPU)")
    parser.add_argument("--part-mb", type=float, default=15.0, help="largest file in OUT/send")
    parser.add_argument("--trial", action="store_true", help="in miniature, to try the code")
    args = parser.parse_args()
    args.minutes = args.minutes or (1.0 if args.trial else 25.0)
    args.processes = args.processes or n_gpus()
    Pipeline(args).run()


if __name__ == "__main__":
    main()
