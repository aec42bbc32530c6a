"""``stretch eval``: what each cache setting costs in quality, measured on one model."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands.chat import token_count
from app.lab.experiment import (
    Experiment,
    add_engine_options,
    add_method_options,
    add_model_options,
    file_name,
    natural,
    write_text,
)
from quantize.errors import UsageError

if TYPE_CHECKING:
    from quantize.lab.evaluate import EvalPlan, Floor, Progress, Row
    from quantize.lab.notebook import Notebook
    from quantize.lab.process import LabProcess
    from quantize.lab.recall import RecallTask
    from quantize.lab.verdict import Verdict

HELP = "Measure what each cache setting costs in quality."

EPILOG = """\
Every setting reads the same text as f16 does, everything compressed as it is written, and its answers are
compared with f16's: KLD, the share of equal next tokens, perplexity. The noise floor beside them is what
rounding noise alone does to the answers; smaller differences mean nothing. Then facts are hidden in longer
texts and asked for, after the whole text was read. Methods that work on a text which was read compress it
once and are judged by the answers to what follows, and with them everything else in the table (--after).
Results are kept while it runs: interrupt it with Ctrl-C and start it again to go on.
"""

N_CTX = 4096
MIN_N_CTX = 32
QUESTIONS = 64
FACTS = 8
RECALL_TOKENS = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.epilog = EPILOG
    add_model_options(parser)
    parser.add_argument(
        "--text", metavar="FILE", type=Path, help="measure on this text (default: built-in prose)"
    )
    parser.add_argument(
        "--ctx", metavar="N", type=token_count, default=N_CTX, help=f"tokens to read (default: {N_CTX:,})"
    )
    parser.add_argument(
        "--after",
        metavar="N",
        type=token_count,
        help="judge only the answers after the first N tokens (default: all; with a method that "
        "compresses what was read, those after three quarters)",
    )
    add_method_options(parser)
    recall = parser.add_argument_group("recall")
    recall.add_argument(
        "--questions",
        metavar="N",
        type=natural,
        default=QUESTIONS,
        help=f"facts to ask for; 0 leaves recall out (default: {QUESTIONS})",
    )
    recall.add_argument(
        "--recall-ctx",
        metavar="N",
        type=token_count,
        default=RECALL_TOKENS,
        help=f"length of the texts they are hidden in (default: {RECALL_TOKENS:,})",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        help="print one JSON object instead of the table (or write it to FILE); "
        "'lines' prints an object per event",
    )
    output.add_argument("--out", metavar="DIR", type=Path, help="where the JSON file and the picture go")
    output.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; 1 if a setting could not be measured.

    Raises:
        StretchError: if the model, the text or the reference cannot be measured.
    """
    from app import paths
    from quantize.lab.parked import CALIBRATIONS
    from quantize.lab.process import LabProcess
    from quantize.lab.text import built_in_text, read_text

    experiment = Experiment.of(args)
    text = read_text(args.text) if args.text else built_in_text()
    environment = {CALIBRATIONS: str(paths.calibrations_dir())}
    with LabProcess(experiment.opening, paths.log_dir() / "lab.log", environment) as process:
        evaluation = _Evaluation(args, experiment, text, process)
        return evaluation.run()


class _Evaluation:
    def __init__(
        self, args: argparse.Namespace, experiment: Experiment, text: str, process: LabProcess
    ) -> None:
        self._args = args
        self._experiment = experiment
        self._text = text
        self._process = process
        self._json: str | None = args.json
        self._report = sys.stderr if self._json in ("-", "lines") else sys.stdout
        self._engine = process.introduction
        self._n_ctx = self._length(args.ctx)
        room = experiment.room()
        settings = experiment.settings(args, windows=self._engine["kernel"] == "own")
        self._candidates = experiment.refuse_too_large(experiment.candidates(settings, self._n_ctx), room)
        self._n_prompt = self._prompt(args.after)
        self._plan = self._make_plan(room)
        self._floor: Floor | None = None

    def run(self) -> int:
        rows, verdict = self._measure()
        data = self._data(rows, verdict)
        if self._json == "-":
            print(json.dumps(data, ensure_ascii=False))
        elif self._json == "lines":
            self._line({"event": "verdict", **{k: v for k, v in data.items() if k != "rows"}})
        self._write(data, rows, verdict)
        return 1 if any(row.failed for row in rows) else 0

    # ------------------------------------------------------------------ what is measured

    def _length(self, asked: int) -> int:
        """Tokens to read: what was asked for, at most what the text has."""
        there: int = self._process.result({"job": "count", "text": self._text})["n"]
        n: int = min(asked, there)
        if asked == N_CTX and self._engine["n_ctx_train"]:
            n = min(n, self._engine["n_ctx_train"])
        if n < MIN_N_CTX:
            raise UsageError(
                f"{n:,} tokens are too few to measure with.",
                f"Give a text and a --ctx of at least {MIN_N_CTX}.",
            )
        return n

    def _prompt(self, asked: int | None) -> int:
        """Tokens that are read before anything is judged."""
        settles = any(c.setting.settles for c in self._candidates)
        n = asked if asked is not None else self._n_ctx * 3 // 4 if settles else 0
        if n > self._n_ctx - 2:
            raise UsageError(
                f"After {n:,} of {self._n_ctx:,} tokens nothing is left to judge.", "Give a smaller --after."
            )
        return n

    def _recall(self) -> RecallTask | None:
        from app.lab.chat_shape import chat_shape
        from quantize.lab.recall import RecallTask

        if not self._args.questions:
            return None
        engine = self._engine
        n_tokens = self._args.recall_ctx
        if engine["n_ctx_train"]:
            n_tokens = min(n_tokens, max(engine["n_ctx_train"] - 256, 128))
        chat = chat_shape(engine["template"], engine["bos"], engine["eos"], thinks=engine["thinks"])
        return RecallTask(n_tokens, self._args.questions, FACTS, chat)

    def _make_plan(self, room: int) -> EvalPlan:
        from quantize.lab.evaluate import EvalPlan

        return EvalPlan(self._text, self._n_ctx, self._recall(), room, self._n_prompt)

    def _notebook(self) -> Notebook:
        """The results so far of exactly this experiment."""
        from app import paths
        from quantize.lab.notebook import Notebook, fingerprint, key_of
        from quantize.native.library import find

        library = find()
        opening = self._experiment.opening
        key = key_of(
            fingerprint(self._experiment.path),
            hashlib.sha256(self._text.encode()).hexdigest(),
            self._n_ctx,
            self._n_prompt,
            json.dumps(asdict(self._plan.recall)) if self._plan.recall else "",
            opening.n_threads,
            opening.repack,
            self._engine["kernel"],
            self._engine["isa"],
            fingerprint(library) if library else "",
            self._experiment.facts()["llama_cpp_python"],
        )
        notebook = Notebook(paths.cache_dir() / "eval" / f"{key}.json")
        if self._args.fresh:
            notebook.clear()
        return notebook

    def _measure(self) -> tuple[list[Row], Verdict | None]:
        from app.lab.eval_report import EvalTable, floor_lines, verdict_lines
        from app.lab.status_line import StatusLine
        from app.lab.table import has_colour
        from quantize.lab.evaluate import Floor, Row, evaluate
        from quantize.lab.verdict import judge

        colour = self._report is sys.stdout and has_colour()
        table = EvalTable(self._candidates, self._n_ctx, recall=self._plan.recall is not None, colour=colour)
        quiet = self._json in ("-", "lines")
        status, rows = StatusLine(), []
        if not quiet:
            print("\n".join([*self._heading(), "", table.head()]), flush=True)
        try:
            for event in evaluate(self._process, self._plan, self._candidates, self._notebook()):
                if isinstance(event, Row):
                    rows.append(event)
                    status.clear()
                    if not quiet:
                        print(table.row(event), flush=True)
                    self._line({"event": "row", **event.data()})
                    if len(rows) == 1 and not quiet and self._floor and (line := table.floor(self._floor)):
                        print(line, flush=True)
                elif isinstance(event, Floor):
                    self._floor = event
                    self._line({"event": "noise_floor", **event.data()})
                else:
                    status.show(_describe(event))
                    self._line({"event": "progress", **asdict(event)})
        except KeyboardInterrupt:
            status.clear()
            print("What was measured is kept: the same command goes on from here.", file=sys.stderr)
            raise
        finally:
            status.clear()
        verdict = judge(rows)
        if not quiet:
            said = [*floor_lines(self._floor, rows), *verdict_lines(verdict, rows, colour=colour)]
            print("\n".join(["", *said]), flush=True)
        return rows, verdict

    # ------------------------------------------------------------------ what is said

    def _heading(self) -> list[str]:
        from app.plain_text import one_line

        engine, task = self._engine, self._plan.recall
        text = f"the text {self._args.text.name}" if self._args.text else "the built-in prose"
        lines = [f"{one_line(self._experiment.name, 60)}: {self._n_ctx:,} tokens of {one_line(text, 60)}"]
        if task is not None:
            lines[0] += (
                f"; recall of {task.n_questions} facts, {task.n_facts} at a time in {task.n_tokens:,} tokens"
            )
        if self._n_prompt:
            lines.append(
                f"Judged by the last {self._n_ctx - self._n_prompt:,} tokens, after the others were read."
            )
        if engine["kernel"] == "own":
            lines.append(f"Compressed caches are read by Stretch's own attention kernel ({engine['isa']}).")
        else:
            lines.append(one_line(engine["kernel_reason"]))
        trained = engine["n_ctx_train"]
        if trained and self._n_ctx > trained:
            lines.append(
                f"This model was trained for {trained:,} tokens; beyond them every cache loses its way."
            )
        return lines

    def _data(self, rows: list[Row], verdict: Verdict | None) -> dict[str, Any]:
        from app.lab.eval_report import verdict_data

        task = self._plan.recall
        return {
            **self._experiment.facts(),
            "n_ctx": self._n_ctx,
            "n_prompt": self._n_prompt,
            "text": self._args.text.name if self._args.text else "built-in prose",
            "text_sha256": hashlib.sha256(self._text.encode()).hexdigest(),
            "kernel": self._engine["kernel"],
            "isa": self._engine["isa"],
            "recall_tokens": task.n_tokens if task else None,
            "recall_facts": task.n_facts if task else None,
            "ppl_f16": rows[0].ppl if rows else None,
            "noise_floor": self._floor.data() if self._floor else None,
            **verdict_data(verdict),
            "rows": [row.data() for row in rows],
        }

    def _line(self, event: dict[str, Any]) -> None:
        if self._json == "lines":
            print(json.dumps(event, ensure_ascii=False), flush=True)

    def _write(self, data: dict[str, Any], rows: list[Row], verdict: Verdict | None) -> None:
        """The JSON file and the picture."""
        from app import paths
        from quantize.lab.picture import draw

        name = f"{file_name(self._experiment.name)}-{self._n_ctx}"
        folder = self._args.out or paths.data_dir() / "eval"
        target = folder / f"{name}.json"
        if self._json not in (None, "-", "lines"):
            target = Path(self._json)
        picture = target.with_suffix(".svg") if target.suffix == ".json" else folder / f"{name}.svg"
        if self._args.out is not None:
            picture = folder / f"{name}.svg"
        write_text(target, json.dumps(data, ensure_ascii=False, indent=1) + "\n")
        write_text(
            picture,
            draw(
                rows,
                title=f"{self._experiment.name}: what a smaller cache costs",
                subtitle=f"{self._n_ctx:,} tokens of {data['text']}; f16 itself stands at 0",
                recommended=verdict.recommended.label if verdict else "",
            ),
        )
        print(f"\nFigures: {target}\nPicture: {picture}", file=self._report)


def _describe(progress: Progress) -> str:
    """One line for the terminal."""
    from app.lab.status_line import duration

    unit = "questions" if progress.what == "recall" else "tokens"
    left = duration(progress.eta_s)
    return (
        f"{progress.fraction:4.0%}  {progress.labels}: {progress.what}, "
        f"{progress.n_done:,} of {progress.n_total:,} {unit}" + (f", {left} left" if left else "")
    )
