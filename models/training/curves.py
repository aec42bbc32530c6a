"""The curves of the runs as a picture: loss and held-out bits per byte over the minutes, SVG without a library."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 880, 420, 64, 24, 76, 52
GAP = 76
NAMES = ("dense", "ternary", "small")

# The look of the other pictures (``quantize.lab.picture``), which cannot be imported here: it loads llama.cpp.
_STYLE = """
svg { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; background: #ffffff; }
.ground { fill: #ffffff; } text { fill: #24292f; } .title { font-size: 17px; font-weight: 600; }
.soft { fill: #57606a; } .grid { stroke: #d8dee4; stroke-width: 1; } .line { fill: none; stroke-width: 2; }
.dense { stroke: #0969da; } .ternary { stroke: #bc4c00; } .small { stroke: #1a7f37; } .thin { stroke-dasharray: 5 4; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; } .ground { fill: #0d1117; } text { fill: #e6edf3; } .soft { fill: #9198a1; }
.grid { stroke: #262c36; } .dense { stroke: #4493f8; } .ternary { stroke: #f0883e; } .small { stroke: #3fb950; } }
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


def _step(most: float) -> float:
    rough = max(most, 1e-6) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)


def _plot(
    lines: list[tuple[str, list[tuple[float, float]]]], title: str, left: float, right: float
) -> list[str]:
    points = [p for _, line in lines for p in line]
    if not points:
        return []
    most_x = max(x for x, _ in points) or 1.0
    low, high = min(y for _, y in points), max(y for _, y in points)
    step = _step(max(high - low, 0.05))
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + x / most_x * (right - left),
            HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM),
        )

    out = [f'<text class="soft" x="{left}" y="{TOP - 14}">{title}</text>']
    for i in range(round((high - low) / step) + 1):
        y = place(0, low + i * step)[1]
        out.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(
            f'<text class="soft" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{low + i * step:.4g}</text>'
        )
    dx = _step(most_x)
    for i in range(int(most_x / dx * 1.0001) + 1):
        x = place(i * dx, low)[0]
        out.append(
            f'<text class="soft" x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{i * dx:.4g}</text>'
        )
    out.append(
        f'<text class="soft" x="{right}" y="{HEIGHT - 12}" text-anchor="end">minutes of training</text>'
    )
    for style, line in lines:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in line))
        out.append(f'<polyline class="line {style}" points="{path}"/>')
    return out


def draw(found: list[Curve]) -> str:
    """An SVG document: training loss on the left, bits per byte of held-out text on the right."""
    middle = (LEFT + WIDTH - RIGHT) / 2
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        "<title>Training of the built-in models</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="32">Training of the built-in models</text>',
    ]
    x = WIDTH - RIGHT - 110.0 * len(found)
    for c in found:
        out.append(f'<line class="line {c.name}" x1="{x}" x2="{x + 26}" y1="28" y2="28"/>')
        out.append(f'<text x="{x + 34}" y="32">{c.name}</text>')
        x += 110
    out += _plot([(c.name, c.loss) for c in found], "loss, nats per learned token", LEFT, middle - GAP / 2)
    out += _plot(
        [(c.name, c.prose) for c in found] + [(f"{c.name} thin", c.chat) for c in found],
        "held-out bits per byte: prose, and chat dashed",
        middle + GAP / 2,
        WIDTH - RIGHT,
    )
    return "\n".join([*out, "</svg>", ""])
