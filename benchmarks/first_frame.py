"""From the start of ``stretch`` to its first frame, in a real terminal.

    python -m benchmarks.first_frame [--runs 7] [--json]

The first frame is complete when the last row, the keys, is drawn. At that moment the program must
not have mapped llama.cpp. The machine is warm: one run before the first is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import psutil

from benchmarks.terminal import Terminal


def run_once(home: Path) -> dict[str, float | bool]:
    """One start: milliseconds on the clock and of the processor, and whether llama.cpp was there."""
    terminal = Terminal(home)
    try:
        at = terminal.wait_for("palette")
        process = psutil.Process(terminal.process.pid)
        times = process.cpu_times()
        native = any("libggml" in m.path or "libllama" in m.path for m in process.memory_maps())
        return {
            "first_frame_ms": (at - terminal.started) * 1e3,
            "cpu_ms": (times.user + times.system) * 1e3,
            "native_library": native,
        }
    finally:
        terminal.wait_for("ready")
        terminal.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        run_once(Path(home))
        runs = [run_once(Path(home)) for _ in range(args.runs)]
    result = {
        "first_frame_ms_median": round(statistics.median(r["first_frame_ms"] for r in runs)),
        "first_frame_ms_worst": round(max(r["first_frame_ms"] for r in runs)),
        "cpu_ms_median": round(statistics.median(r["cpu_ms"] for r in runs)),
        "native_library_at_first_frame": any(r["native_library"] for r in runs),
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(
            f"first frame after {result['first_frame_ms_median']} ms (median of {args.runs}; "
            f"worst {result['first_frame_ms_worst']} ms), {result['cpu_ms_median']} ms of processor time, "
            f"llama.cpp loaded by then: {'yes' if result['native_library_at_first_frame'] else 'no'}"
        )


if __name__ == "__main__":
    main()
