"""What the engine's own allocator says about a model, without loading it.

A child process opens the file with ``no_alloc``: llama.cpp reads the header only, makes the graph
and asks its allocators what everything would take. It needs no weights, so it works on a header
whose data is still on a server (:func:`hollow_file`). llama.cpp ends its process when something in
a file contradicts its expectations; that is why it is a child's, with a time limit and a limit of
memory.

This module is both sides: the parent's functions, and ``python -m models.dryrun`` for the child,
which reads a request as JSON from standard input and writes the answer to standard output.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from quantize.errors import EngineError, ModelFileError

TIME_LIMIT = 30.0
"""Seconds. A dry run takes well under one; a file that keeps llama.cpp busy longer is a trap."""

ADDRESS_SPACE = 16 << 30
"""Most memory that the child may ask for, as far as the system enforces it."""

_MIB = 1 << 20

_CACHE = re.compile(r"llama_kv_cache\w*: size = +([\d.]+) MiB \( *(\d+) cells, +(\d+) layers")
_RECURRENT = re.compile(r"memory_recurrent: size = +([\d.]+) MiB")
_COMPUTE = re.compile(r" compute buffer size = +([\d.]+) MiB")
_COMPRESSED = re.compile(r"llama_dsv4_comp_state\w*: .*size = +([\d.]+) MiB")
_COMPLAINT = re.compile(r"(?:error|failed|GGML_ASSERT|GGML_ABORT|fatal)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """One context to simulate."""

    n_ctx: int
    type_k: int
    """ggml type id of K."""
    type_v: int


@dataclass(frozen=True, slots=True)
class Exact:
    """What one context takes, in bytes, as precise as llama.cpp's log is (.01 MiB per cache)."""

    cache: int
    """All caches together, states of recurrent layers among them."""
    compute: int
    cells: tuple[int, ...]
    """Cells of each cache."""
    layers: tuple[int, ...]
    """Layers of each cache."""
    refused: str = ""
    """What llama.cpp said if it does not make this context."""


def dry_run(
    path: Path,
    requests: Sequence[Request],
    *,
    n_ubatch: int = 512,
    n_seq_max: int = 1,
    n_outputs_max: int = 1,
    time_limit: float = TIME_LIMIT,
) -> list[Exact]:
    """Simulate contexts of the model in ``path``.

    Args:
        path: a GGUF file whose data may be a hole.

    Raises:
        ModelFileError: if llama.cpp does not take the file, with its own words.
    """
    job = {
        "path": str(path.absolute()),
        "requests": [asdict(r) for r in requests],
        "n_ubatch": n_ubatch,
        "n_seq_max": n_seq_max,
        "n_outputs_max": n_outputs_max,
    }
    environment = os.environ | {
        "GGML_NO_BACKTRACE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "models.dryrun"],
            input=json.dumps(job),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=time_limit,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelFileError(
            f"The engine was still busy with the header of {path.name} after {time_limit:g} seconds.",
            "The file is probably damaged.",
        ) from None
    except OSError as error:
        raise EngineError(f"The dry run could not be started: {error.strerror}.") from None
    if done.returncode:
        raise ModelFileError(
            f"The engine does not take {path.name}: {_last_complaint(done.stderr, done.returncode)}",
            "The file may be damaged, or be made for another version of llama.cpp.",
        )
    return [
        Exact(**{**e, "cells": tuple(e["cells"]), "layers": tuple(e["layers"])})
        for e in json.loads(done.stdout)
    ]


@contextmanager
def hollow_file(header: bytes, file_bytes: int, name: str = "model.gguf") -> Iterator[Path]:
    """A temporary file that begins with ``header`` and is a hole up to ``file_bytes``.

    It takes no more disk space than the header, and :func:`dry_run` cannot tell it from the whole
    file.
    """
    with tempfile.TemporaryDirectory(prefix="stretch-") as directory:
        path = Path(directory) / name
        path.write_bytes(header)
        os.truncate(path, max(file_bytes, len(header)))
        yield path


def _last_complaint(log: str, code: int = 1) -> str:
    """The last line of the child's log that names a fault, as a sentence."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    silent = f"it ended with {signal.Signals(-code).name}" if code < 0 else "it ended without a word"
    said = [line for line in lines if _COMPLAINT.search(line)] or lines or [silent]
    # "llama_model_load: error loading model: ..." says it; what follows it only repeats that it failed
    told = [line for line in said if "error loading model: " in line]
    text = told[-1].split("error loading model: ", 1)[1] if told else re.sub(r"^\S*/(?=\w+\.c)", "", said[-1])
    text = "".join(c if c.isprintable() else " " for c in text)[:200]
    return text if text.endswith(".") else text + "."


# --------------------------------------------------------------------------- the child


def _read_log(log: str) -> Exact:
    """The figures in the lines that the making of one context wrote."""
    caches = [(float(size), int(cells), int(layers)) for size, cells, layers in _CACHE.findall(log)]
    states = [float(size) for size in (*_RECURRENT.findall(log), *_COMPRESSED.findall(log))]
    return Exact(
        cache=round((sum(c[0] for c in caches) + sum(states)) * _MIB),
        compute=round(sum(float(size) for size in _COMPUTE.findall(log)) * _MIB),
        cells=tuple(c[1] for c in caches),
        layers=tuple(c[2] for c in caches),
    )


def _limit_memory() -> None:
    """Let a header that asks for too much fail instead of filling the machine."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = ADDRESS_SPACE if most == resource.RLIM_INFINITY else min(ADDRESS_SPACE, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))


def _child() -> int:
    """Answer one request."""
    _limit_memory()
    job = json.load(sys.stdin)
    from quantize import llama

    lines: list[str] = []

    def keep(_level: int, text: str) -> None:
        lines.append(text)
        if _COMPLAINT.search(text):
            sys.stderr.write(text)
            sys.stderr.flush()

    llama.send_log_to(keep)
    try:
        model = llama.Model(job["path"], no_alloc=True)
    except ModelFileError:
        return 1
    answers = []
    for request in job["requests"]:
        lines.clear()
        try:
            context = llama.Context(
                model,
                n_ctx=request["n_ctx"],
                type_k=request["type_k"],
                type_v=request["type_v"],
                n_batch=job["n_ubatch"],
                n_ubatch=job["n_ubatch"],
                n_seq_max=job["n_seq_max"],
                n_outputs_max=job["n_outputs_max"],
            )
        except EngineError:
            answers.append(asdict(Exact(0, 0, (), (), _last_complaint("".join(lines)))))
            continue
        answers.append(asdict(_read_log("".join(lines))))
        context.close()
    model.close()
    json.dump(answers, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(_child())
