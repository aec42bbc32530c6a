"""``stretch calibrate``: learn from a model's own cache how to make parked conversations smallest."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from app.lab.experiment import Experiment, add_engine_options

HELP = "Learn how a model's parked conversations become smallest."

SINGLE = {"OPENBLAS_NUM_THREADS": "1"}
"""For the child: the sums take a second a stretch, and BLAS threads that wait for each other on a busy
machine ten times as long."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("model", metavar="MODEL", nargs="?", default="builtin", help="a GGUF file or a name")
    parser.add_argument("--text", metavar="FILE", type=Path, help="your text instead of the built-in one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Calibrate. Ctrl-C stops it; the same command goes on where it was.

    Raises:
        StretchError: if the model or the text cannot be used.
    """
    from app import paths
    from app.lab.status_line import Milestones, StatusLine
    from quantize.lab.process import LabProcess
    from quantize.lab.text import calibration_text, read_text

    experiment = Experiment.of(args)
    text = read_text(args.text) if args.text else calibration_text()
    directory = paths.private_dir(paths.calibrations_dir())
    job = {"job": "calibrate", "text": text, "directory": str(directory)}
    line, lines = StatusLine(), Milestones()
    watched = sys.stderr.isatty()
    result: dict[str, Any] = {}
    try:
        with LabProcess(experiment.opening, paths.log_dir() / "lab.log", SINGLE) as process:
            for event in process.run(job):
                if event["event"] != "progress":
                    result = event
                elif watched:
                    line.show(f"{experiment.name}: {event['what']}, {event['fraction']:.0%}")
                else:
                    lines.show(f"{experiment.name}: {event['what']}", event["fraction"])
    finally:
        line.clear()
    if args.json:
        print(json.dumps({k: v for k, v in result.items() if k != "event"}))
    else:
        print(_readable(experiment.name, result))
    return 0


def _readable(name: str, result: dict[str, Any]) -> str:
    from app.chat.format import count, size

    lines = [
        f"{name} is calibrated with {count(result['n_tokens'])} tokens; "
        f"that takes {size(result['n_bytes'])} on the disk.",
        f"KLD of a change that is none: {result['floor']:.5f} (the model's own rounding).",
        "It is in every figure.",
        "",
        f"{'codec':<12} {'step':>6} {'smaller':>8} {'KLD':>8}",
    ]
    for codec, points in result["points"].items():
        lines += [f"{codec:<12} {step:>6g} {ratio:>7.1f}x {kld:>8.5f}" for step, kld, ratio in points]
    return "\n".join(lines)
