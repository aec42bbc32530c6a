"""The course of ``stretch quantize``: judge, say what it would do, do it, measure what it cost."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.engine.threads import default_threads
from app.engine.words import size
from app.lab.status_line import StatusLine
from app.plain_text import one_line
from app.weights.new_file import check_disk, destination, new_file
from models.header import Header
from models.levels import Levels, look_at
from models.memory import memory
from models.refusals import check_runs
from models.requantized import Effect, effect, with_types
from models.resolve import display_name, resolve
from models.splits import read_model
from models.tensor_types import TENSOR_TYPES
from quantize.cache_types import parse_pair
from quantize.errors import ModelFileError, StretchError, UsageError
from quantize.weights.file_types import FileType, file_type
from quantize.weights.process import LossJob, QuantizeJob, run

_EXACT = {"f32", "f16", "bf16", "q8_0"}
"""Types from which quantizing again loses no more than quantizing once."""

N_CTX = 8192
USELESS = 0.5
"""Share of equal next tokens below which a file is called useless."""
F16 = parse_pair("f16")


class Quantization:
    """One file that becomes another one."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._to: FileType = file_type(args.to)
        self._source: Path = resolve(args.source)
        self._header: Header = read_model(self._source)
        self._line = StatusLine()
        self._lines: list[str] = []
        self._data: dict[str, Any] = {}
        self._n_threads: int = args.threads or default_threads()

    def run(self) -> int:
        """Do it all; the exit code."""
        name = f"{display_name(self._source)}-{self._to.name}.gguf"
        place = destination(self._args.target, name, self._source, overwrite=self._args.overwrite)
        text = self._text()
        self._judge()
        after = self._dry_run()
        self._tell_effect(after)
        if not self._args.dry_run:
            check_disk(place, after.file_bytes)
            self._write(place, after)
            self._say(f"written to {place}", path=str(place))
            if text:
                self._measure(place, text)
        if self._args.json:
            print(json.dumps(self._data, ensure_ascii=False))
        return 0

    def _say(self, line: str, **data: Any) -> None:
        self._line.clear()
        self._data |= data
        if not self._args.json:
            print(one_line(line))

    def _text(self) -> str:
        from quantize.lab.text import built_in_text, read_text

        if not self._args.tokens or self._args.dry_run:
            return ""
        return read_text(self._args.text) if self._args.text else built_in_text()

    # ------------------------------------------------------------------ before

    def _judge(self) -> None:
        """Refuse what would spoil the weights.

        Raises:
            ModelFileError: with what it would do to them.
        """
        header, to = self._header, self._to
        check_runs(header)
        found = look_at(self._source, header, to.tensor_type)
        self._data |= {"source": str(self._source), "type": to.name, "weights": _kind(found)}
        if not found.suits(to.levels) and not self._args.force:
            trained = "with one bit" if to.levels == 2 else "ternary"
            raise ModelFileError(
                f"{to.name} is for weights that were trained {trained}, and those of {header.name} are "
                f"{found.describe()}: it would change them by "
                f"{found.changed:.0%} of their size and leave nothing of the model.",
                "Choose q4_k_m or another type of 3 bits and more, or add --force to see for yourself.",
            )
        held = _main_type(header)
        lossless = to.levels and found.suits(to.levels)
        if held not in _EXACT and to.name not in _EXACT and not lossless and not self._args.force:
            raise ModelFileError(
                f"The weights of {header.name} are {held} already; quantizing again adds the loss of both.",
                "Start from a file with f16, bf16 or q8_0 weights, or add --force.",
            )
        self._say(
            f"{header.name}: {size(header.file_bytes)}, mostly {held}; the weights are {found.describe()}"
        )

    def _job(self, target: str) -> QuantizeJob:
        args = self._args
        return QuantizeJob(
            source=str(self._source),
            target=target,
            file_type=self._to.id,
            n_threads=self._n_threads,
            tensor_types=tuple(args.tensor_type),
            embedding_type=args.embedding_type,
            output_type=args.output_type,
            pure=args.pure,
            importance=str(args.imatrix.expanduser().absolute()) if args.imatrix else "",
        )

    def _dry_run(self) -> Header:
        """The header that the file will have, from llama.cpp's own dry run."""
        types: dict[str, str] = {}
        for event in run(self._job("")):
            if event["event"] == "tensor":
                types[event["name"]] = event["type"]
        missing = {t.name for t in self._header.tensors} - set(types)
        if missing:
            raise ModelFileError(f"llama.cpp said nothing of {one_line(sorted(missing)[0])}.")
        return with_types(self._header, types)

    def _tell_effect(self, after: Header) -> None:
        types = {name: n for name, n in after.type_bytes().items() if n}
        kinds = ", ".join(f"{name} {size(n)}" for name, n in types.items())
        self._say(f"as {self._to.name}: {size(after.file_bytes)} ({kinds})", types=types)
        found = self._effect(after)
        if found is None:
            return
        self._say(
            f"whole program with {found.n_ctx:,} tokens of f16 cache: {size(found.total.before)} -> "
            f"{size(found.total.after)}; longest context here: {found.longest.before:,} -> "
            f"{found.longest.after:,} tokens",
            **asdict(found),
        )

    def _effect(self, after: Header) -> Effect | None:
        n_ctx = min(N_CTX, self._header.integer("context_length", 0) or N_CTX)
        return effect(self._header, after, F16, n_ctx, memory().available)

    # ------------------------------------------------------------------ doing it

    def _write(self, place: Path, after: Header) -> None:
        with new_file(place, overwrite=self._args.overwrite) as part:
            sizes = {t.name: t.n_bytes for t in after.tensors}
            total, done = sum(sizes.values()) or 1, 0
            for event in run(self._job(str(part))):
                if event["event"] == "tensor":
                    self._line.show(f"{done / total:4.0%}  {event['n']} of {event['of']}: {event['name']}")
                    done += sizes.get(event["name"], 0)
            self._line.clear()
            made = read_model(part)
            wanted = {t.name: (t.shape, t.type_id) for t in after.tensors}
            if {t.name: (t.shape, t.type_id) for t in made.tensors} != wanted:
                raise ModelFileError("The file that was written is not what the quantizer had announced.")

    # ------------------------------------------------------------------ after

    def _measure(self, place: Path, text: str) -> None:
        """Say how far the answers of the new file are from those of the old one.

        The file is good whatever happens here, so a failure is only told.
        """
        needed = self._header.file_bytes + place.stat().st_size
        if needed > memory().available:
            self._say(f"The loss was not measured: both files together take {size(needed)}.", loss=None)
            return
        job = LossJob(str(self._source), str(place), text, self._args.tokens, self._n_threads)
        try:
            *_, result = self._watched(job)
        except StretchError as error:
            self._say(f"The loss was not measured: {error.message}", loss=None)
            return
        del result["event"]
        self._say(
            f"loss on {result['n_tokens']:,} tokens: KLD {result['kld_mean']:.4f} "
            f"± {result['kld_mean_error']:.4f}, the same next token in {result['top1']:.1%}, "
            f"perplexity {result['reference_ppl']:.4g} -> {result['ppl']:.4g}",
            loss=result,
        )
        if result["top1"] < USELESS:
            self._say("The new file hardly ever answers like the old one: it is of no use.")

    def _watched(self, job: LossJob) -> list[dict[str, Any]]:
        events = []
        for event in run(job):
            events.append(event)
            if event["event"] == "progress":
                self._line.show(f"measuring the loss: {event['n']:,} of {job.n_tokens:,} tokens")
        self._line.clear()
        return events


def _main_type(header: Header) -> str:
    """The type of most bytes."""
    names: dict[str, int] = {}
    for tensor in header.tensors:
        name = TENSOR_TYPES[tensor.type_id].name
        names[name] = names.get(name, 0) + tensor.n_bytes
    if not names:
        raise UsageError(f"{header.name} holds no weights.")
    return max(names, key=lambda name: names[name])


def _kind(found: Levels) -> str:
    return {0: "ordinary", 2: "1-bit", 3: "ternary"}[found.levels]
