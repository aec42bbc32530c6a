"""From a key to its echo on the screen, while the engine loads and while it writes.

    python -m benchmarks.ui_latency [--keys 300] [--json]

Keys are letters that no reply of the built-in model holds, so that their first appearance in what
the program draws is their echo. They come at about fifteen per second, at uneven times.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import sleep

from benchmarks.terminal import Terminal

LETTERS = "αβγδεζηθικλμνξοπρστυφχψωбвгджзийклмнпрстуфцчшщыэюя"
PAUSE_S = (0.04, 0.09)
CLEAR = "\x15"
"""Ctrl-U: deletes what was typed."""


def type_while(terminal: Terminal, true: Callable[[], bool], most: int, rng: random.Random) -> list[float]:
    """Type letters while ``true()`` holds; milliseconds to each echo."""
    found: list[float] = []
    letters = ""
    while true() and len(found) < most:
        if not letters:
            terminal.press(CLEAR)
            sleep(0.1)
            letters = LETTERS
        letter, letters = letters[0], letters[1:]
        place = terminal.n_drawn
        pressed = terminal.press(letter)
        found.append((terminal.wait_for(letter, since=place) - pressed) * 1e3)
        sleep(rng.uniform(*PAUSE_S))
    terminal.press(CLEAR)
    return found


def while_loading(home: Path, n_keys: int, rng: random.Random) -> list[float]:
    """From the first frame until the model is ready, as many starts as it takes."""
    found: list[float] = []
    while len(found) < n_keys:
        terminal = Terminal(home)
        terminal.wait_for("palette")
        found += type_while(terminal, lambda t=terminal: not t.has_drawn("ready"), n_keys - len(found), rng)  # type: ignore[misc]
        terminal.wait_for("ready")
        terminal.close()
    return found


def while_writing(home: Path, n_keys: int, rng: random.Random) -> list[float]:
    """While replies are written, one after the other."""
    found: list[float] = []
    terminal = Terminal(home)
    terminal.wait_for("ready")
    for setting in ("temperature 2", "top_k 0", "top_p 1", "min_p 0"):  # noise, which hardly ever ends
        terminal.press(f"/set {setting}\r")
        sleep(0.5)
    while len(found) < n_keys:
        place = terminal.n_drawn
        terminal.press("Tell me a very long story about a dog who looks for the sea.\r")
        terminal.wait_for("writing", "ready", since=place)  # a very short reply is not seen being written
        found += type_while(
            terminal, lambda: terminal.latest("writing", "ready") == "writing", n_keys - len(found), rng
        )
        terminal.press("\x1b")
        sleep(0.5)
        terminal.press("\x0e")  # Ctrl-N: a new conversation
        sleep(0.5)
    terminal.close()
    return found


def summary(found: list[float]) -> dict[str, float]:
    """Median, 95th percentile and worst, in milliseconds."""
    ordered = sorted(found)
    return {
        "keys": len(ordered),
        "median_ms": round(statistics.median(ordered), 1),
        "p95_ms": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 1),
        "worst_ms": round(ordered[-1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keys", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as home:
        result = {
            "loading": summary(while_loading(Path(home), args.keys, rng)),
            "writing": summary(while_writing(Path(home), args.keys, rng)),
        }
    if args.json:
        print(json.dumps(result))
        return
    for name, s in result.items():
        print(
            f"while {name}: {s['median_ms']} ms (median of {s['keys']:.0f} keys), "
            f"95% within {s['p95_ms']} ms, worst {s['worst_ms']} ms"
        )


if __name__ == "__main__":
    main()
