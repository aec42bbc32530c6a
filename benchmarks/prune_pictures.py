"""A picture for every way to prune: the recall of facts against the share of the cells that stay.

    python -m benchmarks.prune_pictures FILE... [--out docs/pruning]

Each picture shows one policy with its 95% intervals before all others in grey. ``FILE`` is what
``python -m benchmarks.prune --json FILE`` writes; several of the same questions are put together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from quantize.lab import svg
from quantize.lab.pruned import PrunedSetting
from quantize.lab.recall import wilson
from quantize.lab.svg import Frame, Scale

FRAME = Frame(width=560, height=264, left=58, right=24, top=48, bottom=56, font=12)
_RULES = """
.other { fill: none; stroke: $pale; } .whole { fill: none; stroke: $blue; stroke-dasharray: 5 4; }
.line { fill: none; stroke: $blue; stroke-width: 2; } .range { stroke: $blue; } .point { fill: $blue; }
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
    keeps = sorted({keep for curve in all_curves.values() for keep, _ in curve})
    x = Scale(keeps[0], 1.0, FRAME.left, FRAME.right_edge, logarithmic=True)
    y = Scale(0.0, 1.0, FRAME.bottom_edge, FRAME.top)

    def line(kind: str, curve: Curve, said: str) -> str:
        return svg.path(kind, ((x(keep), y(right.count("1") / len(right))) for keep, right in curve), said)

    out = svg.rows_of_grid(FRAME, y, [(share, f"{share:.0%}") for share in (0.0, 0.25, 0.5, 0.75, 1.0)])
    out += svg.foot(FRAME, x, [(keep, f"{keep:.0%}") for keep in keeps], "cells that stay")
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
        out.append(svg.line("range", x(keep), y(bottom), x(keep), y(top)))
        out.append(
            svg.circle("point", x(keep), y(hits / n), 3.5, f"{hits} of {n}, 95%: {bottom:.3f}-{top:.3f}")
        )
        if keep < 1:
            place = y(bottom) + 14.4 if hits / n > 0.85 else y(top) - 11.2
            # At the axis the words stand beside the point, not over the axis.
            anchor = "middle" if x(keep) > FRAME.left + 20 else "start"
            out.append(svg.text("", x(keep), place, f"{hits / n:.3f}".removeprefix("0"), anchor=anchor))
    return svg.document(FRAME, name, out, rules=_RULES, note=note)


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
