"""The curves of the runs as a picture: loss and held-out bits per byte over the minutes of training.

``python -m models.training.curves DIR`` draws ``DIR/curves.svg`` from the ``DIR/NAME-curve.jsonl`` that are there.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from quantize.lab import svg
from quantize.lab.svg import Frame, Scale

FRAME = Frame(width=880, height=420, left=64, right=24, top=76, bottom=62)
GAP = 76
NAMES = ("dense", "ternary", "small")

_RULES = """
.line { fill: none; stroke-width: 2; } .thin { stroke-dasharray: 5 4; }
.dense { stroke: $blue; } .ternary { stroke: $orange; } .small { stroke: $green; }
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """One run: points are (minutes, value)."""

    name: str
    loss: list[tuple[float, float]]
    prose: list[tuple[float, float]]
    chat: list[tuple[float, float]]


def read(out: Path) -> list[Curve]:
    """The curves of the runs in ``out`` that have begun."""
    found = []
    for name in NAMES:
        path = out / f"{name}-curve.jsonl"
        if path.exists():
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found.append(
                Curve(
                    name, *([(r["s"] / 60, r[k]) for r in rows if k in r] for k in ("loss", "prose", "chat"))
                )
            )
    return found


def _plot(frame: Frame, lines: list[tuple[str, list[tuple[float, float]]]], title: str) -> list[str]:
    points = [p for _, line in lines for p in line]
    if not points:
        return []
    most = max(x for x, _ in points) or 1.0
    low, high = min(y for _, y in points), max(y for _, y in points)
    step = svg.round_step(max(high - low, 0.05), 5)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    x = Scale(0.0, most, frame.left, frame.right_edge)
    y = Scale(low, high, frame.bottom_edge, frame.top)
    heights = [low + i * step for i in range(round((high - low) / step) + 1)]
    minutes = svg.round_step(most, 5)
    times = [i * minutes for i in range(int(most / minutes * 1.0001) + 1)]
    return [
        svg.text("soft", frame.left, frame.top - 14, title),
        *svg.rows_of_grid(frame, y, [(height, f"{height:.4g}") for height in heights]),
        *svg.foot(frame, x, [(time, f"{time:.4g}") for time in times], "minutes of training"),
        *(svg.path(f"line {style}", [(x(a), y(b)) for a, b in line]) for style, line in lines),
    ]


def draw(found: list[Curve]) -> str:
    """An SVG document: training loss on the left, bits per byte of held-out text on the right."""
    body = []
    x = FRAME.right_edge - 110.0 * len(found)
    for c in found:
        body.append(svg.line(f"line {c.name}", x, 28, x + 26, 28))
        body.append(svg.text("", x + 34, 32, c.name))
        x += 110
    half = FRAME.middle[0]
    body += _plot(
        replace(FRAME, right=FRAME.width - half + GAP / 2),
        [(c.name, c.loss) for c in found],
        "loss, nats per learned token",
    )
    body += _plot(
        replace(FRAME, left=half + GAP / 2),
        [(c.name, c.prose) for c in found] + [(f"{c.name} thin", c.chat) for c in found],
        "held-out bits per byte: prose, and chat dashed",
    )
    return svg.document(FRAME, "Training of the built-in models", body, rules=_RULES)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory
    (directory / "curves.svg").write_text(draw(read(directory)))


if __name__ == "__main__":
    main()
