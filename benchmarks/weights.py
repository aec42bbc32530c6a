"""How fast the built-in models are with each type of weights.

    python -m benchmarks.weights [REPEATS]

The dense model and its ternary sibling, as they ship and quantized to other types. Every repeat goes once
through all of them, so a machine that becomes slower meets them alike; medians and the ratio to the dense
model as it ships.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

from app.engine.threads import default_threads
from models.resolve import resolve
from quantize.lab.text import built_in_text
from quantize.llama import Context, Model, send_log_to
from quantize.weights.file_types import FILE_TYPES
from quantize.weights.process import QuantizeJob, run

N_PROMPT, N_DECODE = 512, 48
Q8_0 = 8
CASES = (
    ("builtin", ""),
    ("builtin-ternary", ""),
    ("builtin", "q4_k_m"),
    ("builtin", "q4_0"),
    ("builtin-ternary", "tq1_0"),
    ("builtin-ternary", "q2_0"),
)


def made(folder: Path, name: str, kind: str) -> Path:
    """The file of one case."""
    if not kind:
        return resolve(name)
    path = folder / f"{name}-{kind}.gguf"
    job = QuantizeJob(str(resolve(name)), str(path), FILE_TYPES[kind].id, embedding_type=Q8_0)
    list(run(job))
    return path


def timed(model: Model, tokens: list[int]) -> tuple[float, float]:
    """Tokens per second of prefill and of decode."""
    with Context(model, n_ctx=1024, type_k=1, type_v=1, n_threads=default_threads(), n_batch=512) as context:
        began = perf_counter()
        context.decode(tokens[:N_PROMPT], 0)
        prefill = perf_counter() - began
        began = perf_counter()
        for i in range(N_DECODE):
            context.decode_one(tokens[N_PROMPT + i], N_PROMPT + i)
        return N_PROMPT / prefill, N_DECODE / (perf_counter() - began)


def main() -> None:
    """Print the table."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    send_log_to(lambda _level, _text: None)
    with tempfile.TemporaryDirectory() as folder:
        paths = [made(Path(folder), *case) for case in CASES]
        models = [Model(path) for path in paths]
        tokens = models[0].tokenize(built_in_text())[: N_PROMPT + N_DECODE]
        runs: list[list[tuple[float, float]]] = [[] for _ in models]
        for _ in range(repeats):
            for i, model in enumerate(models):
                runs[i].append(timed(model, tokens))
        print("| model | weights | MB | prefill t/s | decode t/s | prefill | decode |")
        print("|---|---|---|---|---|---|---|")
        for (name, kind), path, mine in zip(CASES, paths, runs, strict=True):
            tps = [median(r[i] for r in mine) for i in (0, 1)]
            ratio = [median(a[i] / b[i] for a, b in zip(mine, runs[0], strict=True)) for i in (0, 1)]
            size = path.stat().st_size / 1e6
            label = kind or "as it ships"
            print(
                f"| {name} | {label} | {size:.1f} | {tps[0]:,.0f} | {tps[1]:,.0f} "
                f"| {ratio[0]:.2f} | {ratio[1]:.2f} |"
            )


if __name__ == "__main__":
    main()
