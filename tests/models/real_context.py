"""A child process that makes real contexts of a model and reports what llama.cpp allocated for them.

``python -m tests.models.real_context`` reads a job as JSON from standard input and answers on
standard output.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

_BUFFER = re.compile(r" (?:KV|RS) buffer size = +([\d.]+) MiB")
_CELLS = re.compile(r"llama_kv_cache\w*: size = .*\( *(\d+) cells, +(\d+) layers")
_COMPUTE = re.compile(r" compute buffer size = +([\d.]+) MiB")


@dataclass
class Made:
    """What one context took."""

    refused: bool = False
    buffers_mib: list[float] = field(default_factory=list)
    """Every cache buffer, rounded to .01 MiB by llama.cpp."""
    cells: list[int] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    compute_mib: float = 0.0
    rss: int = 0
    """Of the process, after the context was filled."""
    base: int = 0
    """Of the process before it loaded the model: the interpreter and its libraries."""
    decoded: int = 0
    """llama_decode's code."""


def make_contexts(
    path: Path, contexts: list[dict[str, Any]], *, fill: int = 8, repack: bool = True
) -> list[Made]:
    """Make one context after the other in a child process.

    Args:
        contexts: arguments for ``quantize.llama.Context``, and ``fill``: tokens to decode.
    """
    job = {"path": str(path), "contexts": contexts, "repack": repack}
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.real_context"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"GGML_NO_BACKTRACE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [Made(**made) for made in json.loads(done.stdout)]


def _main() -> None:
    job = json.load(sys.stdin)
    from quantize import llama
    from quantize.errors import EngineError

    lines: list[str] = []
    llama.send_log_to(lambda _level, text: lines.append(text))
    process = psutil.Process()
    base = process.memory_info().rss
    model = llama.Model(job["path"], repack=job["repack"])
    answers = []
    for settings in job["contexts"]:
        lines.clear()
        n_fill = settings.pop("fill", 0)
        try:
            context = llama.Context(model, **{"n_threads": 1} | settings)
        except EngineError:
            answers.append(asdict(Made(refused=True)))
            continue
        log = "".join(lines)
        made = Made(
            base=base,
            buffers_mib=[float(x) for x in _BUFFER.findall(log)],
            cells=[int(c) for c, _ in _CELLS.findall(log)],
            layers=[int(n) for _, n in _CELLS.findall(log)],
            compute_mib=sum(float(x) for x in _COMPUTE.findall(log)),
        )
        tokens = [3 + i * 7 % (model.n_vocab - 3) for i in range(n_fill)]
        for start in range(0, len(tokens), context.n_ubatch):
            made.decoded = context.decode(tokens[start : start + context.n_ubatch], start) or made.decoded
        made.rss = process.memory_info().rss
        answers.append(asdict(made))
        context.close()
    model.close()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    _main()
