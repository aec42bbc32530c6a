"""llama.cpp's own program as a judge: what it says of a cache type, and what ``stretch eval`` says.

    python -m benchmarks.neutral_judge PROGRAM MODEL [--kv q4_0/f16,q8_0] [--ctx 1024] [--chunks 2]

PROGRAM is ``llama-perplexity``, built from the source package of the llama-cpp-python that is installed::

    pip download --no-binary :all: --no-deps llama-cpp-python==0.3.36 && tar xf llama_cpp_python-0.3.36.tar.gz
    cmake -S llama_cpp_python-0.3.36/vendor/llama.cpp -B judge -DCMAKE_BUILD_TYPE=Release
    cmake --build judge --target llama-perplexity

It reads each piece of the text into an empty cache and judges the answers in the second half of it
(``--kl-divergence``). Stretch reads the same tokens, which the program wrote into its file, in the same way:
once with llama.cpp's attention, where both must say the same, and once with its own, which rounds less.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app import paths
from app.engine.threads import default_threads
from models.geometry import read_shape
from models.header import read_header
from models.resolve import resolve
from quantize.errors import EngineError
from quantize.lab.opening import Opening
from quantize.lab.process import LabProcess
from quantize.lab.setting import Setting, parse_setting
from quantize.lab.text import built_in_text

KV = "q4_0/f16,f16/q4_0,q8_0,q4_0"
MAGIC = b"_logits_"


@dataclass(frozen=True)
class Loss:
    """What one of the two says of a setting."""

    kld: float
    error: float
    """Standard error of the mean."""
    top1: float

    def __str__(self) -> str:
        return f"{self.kld:.4f} ± {self.error:.4f} | {self.top1:.1%}"


class Judge:
    """``llama-perplexity`` with a model and a text."""

    def __init__(self, program: Path, model: Path, text: Path, args: argparse.Namespace, base: Path) -> None:
        self._command = [str(program), "-m", str(model), "-c", str(args.ctx), "-b", str(args.ctx)]
        self._command += ["-t", str(args.threads), "-fa", "on", "--kl-divergence-base", str(base)]
        self._base = base
        self._run("-f", str(text), "--chunks", str(args.chunks))

    def _run(self, *options: str) -> str:
        done = subprocess.run([*self._command, *options], capture_output=True, text=True, check=False)
        if done.returncode:
            raise EngineError(f"llama-perplexity ended with {done.returncode}: {done.stderr[-400:]}")
        return done.stdout + done.stderr

    def chunks(self) -> list[list[int]]:
        """The tokens that it read, piece by piece."""
        with self._base.open("rb") as file:
            if file.read(8) != MAGIC:
                raise EngineError("llama-perplexity wrote a file of another kind.")
            n_ctx, _n_vocab, n_chunk = np.frombuffer(file.read(12), "<i4").tolist()
            tokens = np.frombuffer(file.read(4 * n_ctx * n_chunk), "<i4")
        return [[int(t) for t in part] for part in tokens.reshape(n_chunk, n_ctx)]

    def loss(self, setting: Setting) -> Loss:
        """What it says of a setting."""
        out = self._run("--kl-divergence", "-ctk", setting.pair.k.name, "-ctv", setting.pair.v.name)
        kld = re.search(r"Mean +KLD: +(\S+) ± +(\S+)", out)
        top = re.search(r"Same top p: +(\S+) ", out)
        if kld is None or top is None:
            raise EngineError("llama-perplexity says nothing of the KLD.", out[-400:])
        return Loss(float(kld[1]), float(kld[2]), float(top[1]) / 100)


def losses(
    opening: Opening, settings: list[Setting], chunks: list[list[int]], kernel: str
) -> dict[str, Loss]:
    """What ``stretch eval`` says of the same tokens: each piece read into empty caches, half of it judged."""
    found: dict[str, list[Loss]] = {setting.label: [] for setting in settings}
    environment = {"STRETCH_KERNEL": "stock" if kernel == "stock" else ""}
    with LabProcess(opening, paths.log_dir() / "lab.log", environment) as process:
        for tokens in chunks:
            job = {"job": "divergence", "settings": [s.data() for s in settings], "tokens": tokens}
            for event in process.run(job | {"n_prompt": len(tokens) // 2}):
                if event["event"] != "result" or event["label"] not in found:
                    continue
                if event["failed"]:
                    raise EngineError(event["failed"])
                loss = Loss(event["kld_mean"], event["kld_mean_error"], event["top1"])
                found[event["label"]].append(loss)
    return {
        label: Loss(
            sum(x.kld for x in each) / len(each),
            math.sqrt(sum(x.error**2 for x in each)) / len(each),
            sum(x.top1 for x in each) / len(each),
        )
        for label, each in found.items()
    }


def main() -> None:
    """Compare; ends with 1 if the two disagree by more than their errors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("program", type=Path, help="llama-perplexity")
    parser.add_argument("model", help="a GGUF file or a name")
    parser.add_argument("--kv", default=KV, help=f"stock cache types, separated by commas (default: {KV})")
    parser.add_argument("--text", type=Path, help="a file (default: the built-in prose)")
    parser.add_argument("--ctx", type=int, default=1024, help="tokens of each piece")
    parser.add_argument("--chunks", type=int, default=2, help="pieces")
    parser.add_argument("--threads", type=int, default=default_threads())
    args = parser.parse_args()
    model, settings = resolve(args.model), [parse_setting(part) for part in args.kv.split(",")]
    opening = Opening(str(model), read_shape(read_header(model)).geometry(), n_threads=args.threads)
    with tempfile.TemporaryDirectory() as directory:
        text = Path(directory) / "text"
        text.write_text(args.text.read_text() if args.text else built_in_text())
        judge = Judge(args.program, model, text, args, Path(directory) / "base")
        stock, own = (losses(opening, settings, judge.chunks(), kernel) for kernel in ("stock", "own"))
        print(f"{args.model}: {args.chunks} times {args.ctx:,} tokens\n")
        print("| K/V | llama-perplexity | top-1 | stretch eval | top-1 | apart by | own kernel | top-1 |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        apart = False
        for setting in settings:
            a, b = judge.loss(setting), stock[setting.label]
            error = math.hypot(a.error, b.error)
            apart |= abs(a.kld - b.kld) > 2 * error
            difference = f"{(b.kld - a.kld) / error:+.1f} errors"
            print(f"| {setting.label} | {a} | {b} | {difference} | {own[setting.label]} |", flush=True)
    raise SystemExit(apart)


if __name__ == "__main__":
    main()
