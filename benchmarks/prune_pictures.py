"""A picture for every way to prune: the recall of facts against the share of the cells that stay.

    python -m benchmarks.prune_pictures FILE... [--out docs/pruning]

Each picture shows one policy with its 95% intervals before all others in grey. ``FILE`` is what
``python -m benchmarks.prune --json FILE`` writes; several of the same questions are put together.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path

from quantize.lab.picture import clean
from quantize.lab.pruned import PrunedSetting
from quantize.lab.recall import wilson

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 24, 44, 44
STYLE = """
svg { font: 12px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; background: #ffffff; }
.ground { fill: #ffffff; } text { fill: #24292f; } .title { font-size: 15px; font-weight: 600; }
.soft { fill: #57606a; } .grid { stroke: #d8dee4; } .other { fill: none; stroke: #c4cad1; }
.whole { fill: none; stroke: #0969da; stroke-dasharray: 5 4; }
.line { fill: none; stroke: #0969da; stroke-width: 2; } .range { stroke: #0969da; } .point { fill: #0969da; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; } .ground { fill: #0d1117; } text { fill: #e6edf3; } .soft { fill: #9198a1; }
.grid { stroke: #262c36; } .other { stroke: #474e57; } .point { fill: #4493f8; }
.line, .whole, .range { stroke: #4493f8; } }
"""

Curve = list[tuple[float, str]]
"""Share that stays, and the answers as 0 and 1; the smallest share first."""


def curves(answers: dict[str, str]) -> dict[str, Curve]:
    """By ``policy`` and ``policy:whole``; prunes with other types are left out."""
    out: dict[str, Curve] = {}
    for label, right in answers.items():
        if label == "full" or "@" in label:
            continue
        way = PrunedSetting.parse(label)
        assert isinstance(way, PrunedSetting)
        out.setdefault(way.policy + ":whole" * way.whole, []).append((way.keep, right))
    return {name: [*sorted(curve), (1.0, answers["full"])] for name, curve in out.items()}


def draw(name: str, all_curves: dict[str, Curve], note: str) -> str:
    """An SVG document of one policy among the others."""
    low = min(keep for curve in all_curves.values() for keep, _ in curve)

    def x(keep: float) -> float:
        return LEFT + (1 - math.log(keep) / math.log(low)) * (WIDTH - LEFT - RIGHT)

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def line(kind: str, curve: Curve, title: str) -> str:
        places = " ".join(f"{x(keep):.1f},{y(right.count('1') / len(right)):.1f}" for keep, right in curve)
        return f'<polyline class="{kind}" points="{places}"><title>{clean(title)}</title></polyline>'

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{clean(name)}: facts recalled against cells kept</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="24">{clean(name)}</text>',
        f'<text class="soft" x="{WIDTH - RIGHT}" y="24" text-anchor="end">{clean(note)}</text>',
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        out.append(
            f'<line class="grid" x1="{LEFT}" y1="{y(share):.1f}" x2="{WIDTH - RIGHT}" y2="{y(share):.1f}"/>'
            f'<text class="soft" x="{LEFT - 8}" y="{y(share) + 4:.1f}" text-anchor="end">{share:.0%}</text>'
        )
    for keep in sorted({keep for curve in all_curves.values() for keep, _ in curve}):
        out.append(
            f'<text class="soft" x="{x(keep):.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">'
            f"{keep:.0%}</text>"
        )
    out.append(
        f'<text class="soft" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">'
        "cells that stay</text>"
    )
    for other, curve in all_curves.items():
        if other != name and not other.endswith(":whole"):
            out.append(line("other", curve, other))
    if f"{name}:whole" in all_curves:
        out.append(line("whole", all_curves[f"{name}:whole"], f"{name}, whole tokens"))
    own = all_curves[name]
    out.append(line("line", own, name))
    for keep, right in own:
        hits, n = right.count("1"), len(right)
        bottom, top = wilson(hits, n)
        at = f"{x(keep):.1f}"
        below = 18 if hits / n > 0.85 else -14
        edge = bottom if below > 0 else top
        out.append(
            f'<line class="range" x1="{at}" y1="{y(bottom):.1f}" x2="{at}" y2="{y(top):.1f}"/>'
            f'<circle class="point" cx="{at}" cy="{y(hits / n):.1f}" r="3.5">'
            f"<title>{hits} of {n}, 95%: {bottom:.3f}-{top:.3f}</title></circle>"
        )
        if keep < 1:
            out.append(
                # At the axis the words stand beside the point, not over the axis.
                f'<text x="{at}" y="{y(edge) + below * 0.8:.1f}" '
                f'text-anchor="{"middle" if x(keep) > LEFT + 20 else "start"}">'
                f"{f'{hits / n:.3f}'.removeprefix('0')}</text>"
            )
    return "\n".join([*out, "</svg>", ""])


def table(all_curves: dict[str, Curve]) -> Iterable[str]:
    """The figures of every picture, as Markdown."""
    keeps = sorted({keep for curve in all_curves.values() for keep, _ in curve if keep < 1}, reverse=True)
    yield "| | " + " | ".join(f"{keep:.0%}" for keep in keeps) + " |"
    yield "|---|" + "---|" * len(keeps)
    for name, curve in all_curves.items():
        cells = []
        for keep in keeps:
            right = dict(curve).get(keep, "")
            low, high = wilson(right.count("1"), len(right))
            share = f"{right.count('1') / max(1, len(right)):.3f} ({low:.2f}-{high:.2f})".replace("0.", ".")
            cells.append(share if right else "")
        yield f"| `{name}` | " + " | ".join(cells) + " |"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/pruning"))
    args = parser.parse_args()
    answers: dict[str, str] = {}
    for file in args.files:
        data = json.loads(file.read_text())
        assert answers.get("full", data["answers"]["full"]) == data["answers"]["full"]
        answers |= data["answers"]
    note = (
        f"recall of {len(answers['full'])} facts, {data['facts']} in each text of {data['tokens']:,} tokens"
    )
    found = curves(answers)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in found:
        if not name.endswith(":whole"):
            (args.out / f"{name}.svg").write_text(draw(name, found, note), encoding="utf-8")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
