"""The child process for the weights of files: quantizes one, or compares the answers of two.

It reads one job as a line of JSON from standard input and writes a line per event to standard output.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

from quantize import child
from quantize.child import Emit
from quantize.errors import EngineError, ModelFileError, StretchError

BUFFER_BYTES = 256 << 20
"""Rows that llama.cpp holds at once while it quantizes."""

PROGRESS_SECONDS = 0.1

_TENSOR = re.compile(r"\[ *(\d+)/ *(\d+)\] (\S+) +- \[")
_BECOMES = re.compile(r"size = .* -> .*\((\S+)\)")


def main() -> None:
    """Do the one job. Descriptor 2 is the log."""
    emit = child.open_events()
    job = json.loads(sys.stdin.readline())
    try:
        work = {"quantize": _quantize, "loss": _loss}[job["job"]]
        emit({"event": "done", **work(job, emit)})
    except StretchError as error:
        emit(child.failed(error))
    os._exit(0)


# --------------------------------------------------------------------------- quantizing


class _Log:
    """Follows llama.cpp's log: what it says of each tensor is the progress."""

    def __init__(self, emit: Emit, *, dry: bool) -> None:
        """
        Args:
            dry: whether it is a dry run, in which each tensor's line ends with its new type.
        """
        self._emit = emit
        self._dry = dry
        self._event: dict[str, Any] = {}
        self.complaint = ""

    def __call__(self, level: int, text: str) -> None:
        child.log_problems(level, text)
        if level >= 3 and "failed to quantize: " in text:
            self.complaint = text.split("failed to quantize: ", 1)[1].strip()
        start = _TENSOR.search(text)
        if start:
            self._event = {"event": "tensor", "n": int(start[1]), "of": int(start[2]), "name": start[3]}
            if not self._dry:
                self._emit(self._event)
        if self._dry and self._event and text.endswith("\n"):
            becomes = _BECOMES.search(text)
            self._emit(self._event | {"type": becomes[1].lower() if becomes else ""})
            self._event = {}


def _quantize(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    import llama_cpp.llama_cpp as L

    from quantize.llama import send_log_to

    log = _Log(emit, dry=not job["target"])
    send_log_to(log)
    params = L.llama_model_quantize_default_params()
    params.nthread = job["n_threads"]
    params.ftype = job["file_type"]
    params.allow_requantize = True  # whether that makes sense is judged before
    params.pure = job["pure"]
    params.dry_run = not job["target"]
    params.max_buf_size = BUFFER_BYTES
    if job["embedding_type"] is not None:
        params.token_embedding_type = job["embedding_type"]
    if job["output_type"] is not None:
        params.output_tensor_type = job["output_type"]
    patterns = [(pattern.encode(), kind) for pattern, kind in job["tensor_types"]]
    kept: list[Any] = []  # what the C structures point to
    if patterns:
        overrides = (L.llama_model_tensor_override * (len(patterns) + 1))()
        for i, (pattern, kind) in enumerate(patterns):
            overrides[i].pattern, overrides[i].type = pattern, kind
        kept.append(overrides)
        params.tt_overrides = overrides
    if job["importance"]:
        matrices = _importance(Path(job["importance"]), kept)
        kept.append(matrices)
        params.imatrix = matrices
    source, target = os.fsencode(job["source"]), os.fsencode(job["target"] or os.devnull)
    L.llama_backend_init()
    if L.llama_model_quantize(source, target, ctypes.byref(params)):
        raise _refused(log.complaint, Path(job["source"]).name)
    return {}


def _importance(path: Path, kept: list[Any]) -> Any:
    """The C array of the importance matrices; the last entry has no name."""
    import llama_cpp.llama_cpp as L

    from quantize.weights.importance import read_importance

    found = read_importance(path)
    array = (L.llama_model_imatrix_data * (len(found) + 1))()
    for i, (name, values) in enumerate(found.items()):
        array[i].name = name.encode()
        array[i].data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        array[i].size = values.size
    kept.append(found)
    return array


def _refused(complaint: str, name: str) -> StretchError:
    """What llama.cpp said, with what to do about it."""
    text = re.sub(r"\s+", " ", complaint).rstrip(".!") or "it did not say why"
    if "imatrix" in text or "importance matrix" in text:
        return ModelFileError(
            f"llama.cpp could not quantize {name}: {text}.",
            "Give an importance matrix of this model (--imatrix FILE), or choose a type with more bits.",
        )
    if "iostream" in text or "basic_ios" in text:
        return ModelFileError(
            "The quantized file could not be written to the end.", "Free some disk space and try again."
        )
    return ModelFileError(f"llama.cpp could not quantize {name}: {text}.", "Try another type.")


# --------------------------------------------------------------------------- measuring


def _loss(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """How far the answers of ``other`` are from those of ``reference``, both with an f16 cache."""
    from quantize.lab.batch import batch_size
    from quantize.lab.divergence import Divergence, add_all
    from quantize.llama import Context, Model, send_log_to

    send_log_to(child.log_problems)
    reported = 0.0
    with ExitStack() as stack:
        models = [stack.enter_context(Model(job[k], repack=False)) for k in ("reference", "other")]
        if models[0].n_vocab != models[1].n_vocab:
            raise ModelFileError("The two files have different vocabularies and cannot be compared.")
        tokens = models[0].tokenize(job["text"], add_special=True, parse_special=False)[: job["n_tokens"]]
        if len(tokens) < 2:
            raise EngineError("The text is too short to measure with.", "Give a longer one.")
        batch = batch_size(models[0].n_vocab)
        contexts = [
            stack.enter_context(
                Context(
                    model,
                    n_ctx=len(tokens),
                    type_k=1,
                    type_v=1,
                    n_threads=job["n_threads"],
                    n_batch=batch,
                    n_ubatch=batch,
                    n_outputs_max=batch,
                )
            )
            for model in models
        ]
        own, other = Divergence(), Divergence()
        for done in range(0, len(tokens) - 1, batch):
            chunk = tokens[done : min(done + batch, len(tokens) - 1)]
            for context in contexts:
                if context.decode(chunk, done, logits="all"):
                    raise EngineError("llama.cpp could not read the text.", "Try a shorter one.")
            a, b = (context.all_logits(len(chunk)) for context in contexts)
            add_all(a, [b], tokens[done + 1 : done + 1 + len(chunk)], [other], own)
            if (now := monotonic()) - reported > PROGRESS_SECONDS:
                reported = now
                emit({"event": "progress", "n": done + len(chunk)})
    return {**asdict(other.summary()), "reference_ppl": own.summary().ppl}


if __name__ == "__main__":
    main()
