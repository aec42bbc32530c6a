"""The picture of ``benchmarks.park``: KLD against how many times smaller, a line for each codec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quantize.lab import svg
from quantize.lab.svg import Frame, Scale

FRAME = Frame(width=880, height=520, left=84, right=40, top=76, bottom=76)

_RULES = """
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
.dot, .name { fill: currentColor; } .floor { stroke: $axis; stroke-dasharray: 5 4; }
.wanted { fill: none; stroke: $green; stroke-width: 2.5; }
.c0 { color: $blue; } .c1 { color: $purple; } .c2 { color: $orange; } .c3 { color: $pink; }
.c4 { color: $soft; }
"""
_COLOURS = 5
_RATIOS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True, slots=True)
class Point:
    """What one setting costs and saves."""

    codec: str
    label: str
    ratio: float
    """Bytes of the f16 cache by bytes of the file."""
    kld: float
    """Mean KLD of the tokens that follow."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A bound: at least ``ratio`` times smaller at no more than ``kld``."""

    ratio: float
    kld: float


class _Axes:
    """From figures to places, both axes logarithmic."""

    def __init__(self, ratios: Sequence[float], klds: Sequence[float]) -> None:
        self.x = Scale(min(1.0, *ratios), max(ratios) * 1.1, FRAME.left, FRAME.right_edge, logarithmic=True)
        self.y = Scale(*svg.decades(klds), FRAME.bottom_edge, FRAME.top, logarithmic=True)


def draw(
    points: Sequence[Point], title: str, subtitle: str, floor: float, wanted: Iterable[Wanted] = ()
) -> str:
    """An SVG document.

    Args:
        points: at least one with a KLD above 0; those of a codec are joined in this order.
        floor: KLD that even a change costs that is none.
        wanted: bounds, each drawn as the corner of what is within it.
    """
    points = [p for p in points if p.kld > 0]
    wanted = list(wanted)
    axes = _Axes(
        [*(p.ratio for p in points), *(w.ratio for w in wanted)],
        [*(p.kld for p in points), *(w.kld for w in wanted), *([floor] if floor > 0 else [])],
    )
    marks = [(mark, f"{mark}x") for mark in _RATIOS if axes.x.low <= mark <= axes.x.high]
    body = svg.rows_of_grid(FRAME, axes.y, svg.powers(axes.y.low, axes.y.high))
    body += svg.foot(FRAME, axes.x, marks, "f16 cache divided by file (further right is smaller)")
    body.append(svg.side(FRAME, "mean KLD to the f16 cache, nats (lower is closer)"))
    body += _floor(axes, floor)
    for w in wanted:
        body += _corner(axes, w)
    body += _lines(axes, points)
    return svg.document(FRAME, title, body, rules=_RULES, subtitle=subtitle)


def _floor(axes: _Axes, floor: float) -> list[str]:
    if floor <= 0:
        return []
    y = axes.y(floor)
    return [
        svg.line("floor", FRAME.left, y, FRAME.right_edge, y, f"floor: KLD {floor:.5f}"),
        svg.text("soft", FRAME.left + 6, y + 16, "the engine's own rounding"),
    ]


def _corner(axes: _Axes, wanted: Wanted) -> list[str]:
    """The upper left corner of the field in which a bound is met."""
    x, y = axes.x(wanted.ratio), axes.y(wanted.kld)
    said = f"wanted: {wanted.ratio:g}x at a KLD of {wanted.kld:g}"
    return [
        svg.path("wanted", [(x, y + 26), (x, y), (x + 34, y)], said),
        svg.text("soft", x + 6, y + 17, "wanted"),
    ]


def _lines(axes: _Axes, points: Sequence[Point]) -> list[str]:
    out = []
    taken: list[tuple[float, float]] = []
    codecs = list(dict.fromkeys(p.codec for p in points))
    ends = {name: [p for p in points if p.codec == name][-1] for name in codecs}
    for name in sorted(codecs, key=lambda n: axes.y(ends[n].kld), reverse=True):
        colour = f"c{codecs.index(name) % _COLOURS}"
        mine = [(axes.x(p.ratio), axes.y(p.kld), p) for p in points if p.codec == name]
        out.append(svg.path(f"line {colour}", [(x, y) for x, y, _ in mine]))
        for x, y, p in mine:
            said = f"{p.label}: {p.ratio:.1f}x, KLD {p.kld:.2g}"
            out.append(svg.circle(f"dot {colour}", x, y, 4, said))
        # Lines rise to the right: above the end and left of it there is room.
        x, y = mine[-1][0] - 6, mine[-1][1] - 8
        while any(abs(x - a) < svg.LETTER * len(name) and abs(y - b) < svg.LINE for a, b in taken):
            y -= svg.LINE
        taken.append((x, y))
        out.append(svg.text(f"name {colour}", x, y, name, anchor="end"))
    return out
