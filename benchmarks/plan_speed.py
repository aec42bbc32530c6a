"""How long ``stretch plan`` takes on a local file, the interpreter's start included.

    python -m benchmarks.plan_speed [--runs 7]

Three files: the built-in model, a hollow one with the geometry of an 8B model and a vocabulary of
152,000 words, and a hollow mixture of experts. Each is planned the first time with the engine's dry run
(nothing is remembered) and again with its answer remembered.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from models.resolve import resolve
from tests.synthetic import SyntheticModels


def seconds(path: Path, home: Path) -> float:
    """One ``stretch plan``."""
    began = perf_counter()
    subprocess.run(
        [sys.executable, "-m", "app.cli", "plan", str(path)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"STRETCH_HOME": str(home)},
    )
    return perf_counter() - began


def main() -> None:
    """Print medians and the worst of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs: int = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        make = SyntheticModels(Path(folder))
        sizes = {"n_layer": 36, "n_embd": 4096, "n_head": 32, "n_head_kv": 8, "head_dim": 128, "n_ff": 12288}
        files = {
            "built-in": resolve("builtin"),
            "8B": make("qwen3", hollow=True, n_ctx=65536, n_vocab=151_936, **sizes),
            "20B MoE": make(
                "gpt-oss",
                hollow=True,
                weight_type="mxfp4",
                n_layer=24,
                n_embd=2880,
                n_head=64,
                n_head_kv=8,
                n_expert=32,
                n_expert_used=4,
                n_ff_exp=2880,
                n_vocab=201_088,
            ),
        }
        for name, path in files.items():
            first, again = [], []
            for i in range(runs):
                home = Path(folder) / f"home-{name}-{i}"
                first.append(seconds(path, home))
                again.append(seconds(path, home))
            for what, times in (("first", first), ("again", again)):
                print(f"{name:9} {what}: {statistics.median(times):.3f} s, worst {max(times):.3f} s")


if __name__ == "__main__":
    main()
