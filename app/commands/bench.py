"""``stretch bench``: how fast each cache setting is at several depths, stock kernel and own kernel."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.lab.experiment import Experiment, add_engine_options, add_model_options, natural, write_text
from quantize.errors import UsageError

if TYPE_CHECKING:
    from quantize.lab.benchmark import BenchFailure, BenchPlan, SpeedRow, SwitchRow
    from quantize.lab.candidate import Candidate
    from quantize.lab.process import LabProcess

HELP = "Measure how fast each cache setting is at several depths."

EPILOG = """\
Prefill: the first DEPTH tokens of a text are read, 512 at a time. Decode: the tokens after them, one at a
time. The stock kernel and Stretch's own take turns in every repeat; figures are medians, and a ratio is
the median of the ratios of each repeat. Close other programs while it runs.
"""

DEPTHS = "512,4096,8192"
REPEATS = 5
DECODE = 32
MAX_DEPTH = 1 << 22


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.epilog = EPILOG
    add_model_options(parser)
    parser.add_argument(
        "--depth",
        metavar="LIST",
        type=depth_list,
        default=depth_list(DEPTHS),
        help=f"lengths of the context, separated by commas (default: {DEPTHS})",
    )
    parser.add_argument(
        "--kernel", choices=("both", "stock", "own"), default="both", help="which attention kernel (both)"
    )
    parser.add_argument(
        "--repeats", metavar="N", type=natural, default=REPEATS, help=f"measurements of each ({REPEATS})"
    )
    parser.add_argument(
        "--decode",
        metavar="N",
        type=natural,
        default=DECODE,
        help=f"tokens to decode at each depth ({DECODE})",
    )
    parser.add_argument("--no-switch", action="store_true", help="leave out the time of a change from f16")
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        help="print one JSON object instead of the table (or write it to FILE)",
    )
    add_engine_options(parser)


def depth_list(text: str) -> tuple[int, ...]:
    """Read ``512,4096,8k``."""
    from app.commands.chat import token_count

    depths = sorted({token_count(part.strip()) for part in text.split(",") if part.strip()})
    if not depths or not 16 <= depths[0] <= depths[-1] <= MAX_DEPTH:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of lengths, for example {DEPTHS}")
    return tuple(depths)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 1 if something could not be measured.

    Raises:
        StretchError: if the model cannot be measured at all.
    """
    from quantize.lab.benchmark import BenchPlan
    from quantize.lab.text import built_in_text

    if args.repeats < 1 or args.decode < 1:
        raise UsageError("Nothing can be measured with no repeats or no tokens.", "Leave the option out.")
    experiment = Experiment.of(args)
    with ExitStack() as stack:
        processes = _processes(args, experiment, stack)
        longest = args.depth[-1]
        settings = experiment.settings(args, windows="own" in processes)
        candidates = experiment.refuse_too_large(
            experiment.candidates(settings, longest + args.decode), experiment.room(len(processes))
        )
        plan = BenchPlan(
            built_in_text(), args.depth, args.repeats, args.decode, 0 if args.no_switch else longest
        )
        return _measure(args, experiment, processes, plan, candidates)


def _processes(args: argparse.Namespace, experiment: Experiment, stack: ExitStack) -> dict[str, LabProcess]:
    """The children, by kernel, with the model loaded. Without a usable own kernel only the stock one.

    Raises:
        StretchError: if only the own kernel was asked for and it cannot be used.
    """
    from app import paths
    from quantize.errors import EngineError
    from quantize.lab.benchmark import KERNELS
    from quantize.lab.process import LabProcess

    processes: dict[str, LabProcess] = {}
    for kernel in KERNELS:
        if args.kernel not in ("both", kernel):
            continue
        environment = {"STRETCH_KERNEL": "stock" if kernel == "stock" else ""}
        process = stack.enter_context(
            LabProcess(experiment.opening, paths.log_dir() / f"lab-{kernel}.log", environment)
        )
        if process.introduction["kernel"] != kernel:
            reason = process.introduction["kernel_reason"]
            if args.kernel == "own":
                raise EngineError(reason)
            print(reason, file=sys.stderr)
            process.close()
            continue
        processes[kernel] = process
    return processes


def _measure(
    args: argparse.Namespace,
    experiment: Experiment,
    processes: dict[str, LabProcess],
    plan: BenchPlan,
    candidates: list[Candidate],
) -> int:
    from app.lab.bench_report import bench_lines
    from app.lab.status_line import StatusLine, duration
    from app.lab.table import has_colour
    from quantize.lab.benchmark import BenchFailure, SpeedRow, SwitchRow, benchmark

    status = StatusLine()
    rows: list[SpeedRow] = []
    switches: list[SwitchRow] = []
    failures: list[BenchFailure] = []
    try:
        for event in benchmark(processes, plan, candidates):
            if isinstance(event, SpeedRow):
                rows.append(event)
            elif isinstance(event, SwitchRow):
                switches.append(event)
            elif isinstance(event, BenchFailure):
                failures.append(event)
            elif event.labels:
                left = duration(event.eta_s)
                status.show(
                    f"{event.fraction:4.0%}  {event.labels}: {event.what}"
                    + (f", {left} left" if left else "")
                )
    except KeyboardInterrupt:
        status.clear()
        print(
            "Nothing is kept of a benchmark that was interrupted: the same command begins again. "
            "Fewer --repeats or a smaller --depth make it shorter.",
            file=sys.stderr,
        )
        raise
    finally:
        status.clear()
    data = _data(experiment, processes, plan, rows, switches, failures)
    if args.json == "-":
        print(json.dumps(data, ensure_ascii=False))
    else:
        print("\n".join(bench_lines(experiment.name, plan, rows, switches, failures, colour=has_colour())))
        if args.json is not None:
            write_text(Path(args.json), json.dumps(data, ensure_ascii=False, indent=1) + "\n")
            print(f"\nFigures: {args.json}")
    return 1 if failures else 0


def _data(
    experiment: Experiment,
    processes: dict[str, LabProcess],
    plan: BenchPlan,
    rows: list[SpeedRow],
    switches: list[SwitchRow],
    failures: list[BenchFailure],
) -> dict[str, Any]:
    return {
        **experiment.facts(),
        "isa": processes["own"].introduction["isa"] if "own" in processes else "",
        "repeats": plan.repeats,
        "n_decode": plan.n_decode,
        "rows": [row.data() for row in rows],
        "switches": [switch.data() for switch in switches],
        "failures": [asdict(failure) for failure in failures],
    }
