"""``stretch doctor``: what is installed, what the machine offers, where the files are, what works."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from app.chat.format import size
from app.plain_text import one_line
from quantize.errors import EngineError

if TYPE_CHECKING:
    from app.doctor.selftests import Result

HELP = "Report versions, processor, memory and paths, and test the engine."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--no-tests", action="store_true", help="only report, run no self-test")


def run(args: argparse.Namespace) -> int:
    """Report; the exit code is 1 if a self-test failed."""
    from app.doctor import facts, probe

    probed: dict[str, Any] | EngineError
    try:
        probed = probe.ask()
    except EngineError as error:
        probed = error
    report: dict[str, Any] = {
        "versions": facts.versions(),
        "machine": facts.machine(),
        "terminal": facts.terminal(),
        "places": facts.places(),
        "threads": facts.threads(),
        "libraries": {"error": str(probed)} if isinstance(probed, EngineError) else probed,
    }
    if not args.json:
        print(_readable(report))
        sys.stdout.flush()
    results = [] if args.no_tests else list(_test(probed, show=not args.json))
    report["tests"] = [asdict(result) for result in results]
    report["ok"] = not isinstance(probed, EngineError) and all(result.ok for result in results)
    if args.json:
        print(json.dumps(report, indent=1))
    elif not report["ok"]:
        print(f"\nSomething is wrong. The log {report['places']['log']['path']} may say more.")
    return 0 if report["ok"] else 1


def _test(probed: dict[str, Any] | EngineError, *, show: bool) -> Iterable[Result]:
    from app.doctor.selftests import run_all

    if show:
        print("\nSelf-tests")
    for result in run_all(probed):
        if show:
            mark = "ok  " if result.ok else "FAIL"
            print(
                f"  {mark}  {result.name:<22}{one_line(result.detail)} ({result.seconds:.2f} s)", flush=True
            )
        yield result


def _readable(report: dict[str, Any]) -> str:
    versions, machine, libraries = report["versions"], report["machine"], report["libraries"]
    rows: list[tuple[str, list[tuple[str, str]]]] = [
        ("Versions", list(versions.items())),
        (
            "Machine",
            [
                ("system", machine["system"]),
                (
                    "processor",
                    f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads",
                ),
                ("memory", _memory(machine)),
                ("terminal", ", ".join(v for v in report["terminal"].values() if v)),
            ],
        ),
        ("Engine", engine_rows(libraries)),
        ("Threads", [(name or "cores", text) for name, text in report["threads"].items()]),
        ("Files", [(name, _file(place)) for name, place in report["places"].items()]),
    ]
    lines = []
    for title, pairs in rows:
        lines += ["", title, *(f"  {name:<18}{one_line(text)}" for name, text in pairs)]
    return "\n".join(lines[1:])


def engine_rows(libraries: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values: llama.cpp, the processor, the native library and its attention kernel."""
    if "error" in libraries:
        return [("problem", libraries["error"])]
    native, attention = libraries["native"], libraries["attention"]
    kernel = attention["reason"]
    if attention["ok"]:
        apart = attention.get("apart")
        place = f"as a device of its own: {apart}" if apart else "in llama.cpp's own threads"
        kernel = f"{attention['isa']}, agrees with llama.cpp's, {place}"
    return [
        ("llama.cpp", libraries["engine"] + (", with GPU support" if libraries["gpu"] else "")),
        ("processor uses", ", ".join(libraries["cpu_features"])),
        ("native library", f"{native['isa']}, {native['path']}" if native["ok"] else native["reason"]),
        ("attention kernel", kernel),
    ]


def _memory(machine: dict[str, Any]) -> str:
    limit = {"cgroup": ", limited by the control group", "metal": ", limited by Metal"}
    return (
        f"{size(machine['memory_available'])} available of {size(machine['memory_total'])}"
        f"{limit.get(machine['memory_limit'], '')}, swap used {size(machine['swap_used'])}"
    )


def _file(place: dict[str, Any]) -> str:
    text = str(place["path"])
    if place["bytes"]:
        text += f" ({size(place['bytes'])})"
    elif not place["exists"]:
        text += " (not made yet)"
    if not place["writable"]:
        text += ", NOT WRITABLE"
    return f"{text}, {size(place['disk_free'])} free"
