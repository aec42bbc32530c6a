"""The picture of ``benchmarks.park``: KLD against how many times smaller, a line for each codec, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quantize.lab.picture import clean

WIDTH, HEIGHT = 880, 520
LEFT, RIGHT, TOP, BOTTOM = 84, 40, 76, 76
LETTER = 7.0
"""Width of a letter, about."""
LINE = 15.0
"""Height of a label."""

# The look of the other pictures (``quantize.lab.picture``), with a colour for each line.
_STYLE = """
svg { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; background: #ffffff; }
.ground { fill: #ffffff; } text { fill: #24292f; } .title { font-size: 17px; font-weight: 600; }
.soft { fill: #57606a; } .grid { stroke: #d8dee4; stroke-width: 1; } .axis { stroke: #8c959f; }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
.dot, .name { fill: currentColor; } .floor { stroke: #8c959f; stroke-dasharray: 5 4; }
.wanted { fill: none; stroke: #1a7f37; stroke-width: 2.5; }
.c0 { color: #0969da; } .c1 { color: #8250df; } .c2 { color: #bc4c00; } .c3 { color: #bf3989; }
.c4 { color: #57606a; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; } .ground { fill: #0d1117; } text { fill: #e6edf3; } .soft { fill: #9198a1; }
.grid { stroke: #262c36; } .axis, .floor { stroke: #656c76; } .wanted { stroke: #3fb950; }
.name { fill: currentColor; }
.c0 { color: #4493f8; } .c1 { color: #a371f7; } .c2 { color: #f0883e; } .c3 { color: #db61a2; }
.c4 { color: #9198a1; } }
"""
_COLOURS = 5


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
        self.low = 10.0 ** math.floor(math.log10(min(klds)))
        self.high = 10.0 ** max(math.ceil(math.log10(max(klds))), math.log10(self.low) + 1)
        self.least, self.most = min(1.0, *ratios), max(ratios) * 1.1

    def x(self, ratio: float) -> float:
        share = math.log(ratio / self.least) / math.log(self.most / self.least)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, kld: float) -> float:
        share = math.log10(max(kld, self.low) / self.low) / math.log10(self.high / self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


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
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img">',
            f"<title>{clean(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
            f'<text class="title" x="{LEFT}" y="32">{clean(title)}</text>',
            f'<text class="soft" x="{LEFT}" y="54">{clean(subtitle, 120)}</text>',
            *_grid(axes),
            *_floor(axes, floor),
            *(line for w in wanted for line in _corner(axes, w)),
            *_lines(axes, points),
            "</svg>",
            "",
        ]
    )


def _grid(axes: _Axes) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    out = []
    for power in range(round(math.log10(axes.low)), round(math.log10(axes.high)) + 1):
        y = axes.y(10.0**power)
        name = f"{10.0**power:.{max(-power, 0)}f}".lstrip("0") if power > -5 else f"1e{power}"
        out.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        out.append(f'<text class="soft" x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{name}</text>')
    for mark in (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128):
        if axes.least <= mark <= axes.most:
            x = axes.x(mark)
            out.append(f'<line class="axis" x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 5}"/>')
            out.append(
                f'<text class="soft" x="{x:.1f}" y="{bottom + 22}" text-anchor="middle">{mark}x</text>'
            )
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    return [
        *out,
        f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>',
        f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 24}" text-anchor="middle">'
        "f16 cache divided by file (further right is smaller)</text>",
        f'<text transform="translate(24 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        "mean KLD to the f16 cache, nats (lower is closer)</text>",
    ]


def _floor(axes: _Axes, floor: float) -> list[str]:
    if floor <= 0:
        return []
    y = axes.y(floor)
    return [
        f'<line class="floor" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}">'
        f"<title>floor: KLD {floor:.5f}</title></line>",
        f'<text class="soft" x="{LEFT + 6}" y="{y + 16:.1f}">the engine\'s own rounding</text>',
    ]


def _corner(axes: _Axes, wanted: Wanted) -> list[str]:
    """The upper left corner of the field in which a bound is met."""
    x, y = axes.x(wanted.ratio), axes.y(wanted.kld)
    said = f"wanted: {wanted.ratio:g}x at a KLD of {wanted.kld:g}"
    return [
        f'<polyline class="wanted" points="{x:.1f},{y + 26:.1f} {x:.1f},{y:.1f} {x + 34:.1f},{y:.1f}">'
        f"<title>{said}</title></polyline>",
        f'<text class="soft" x="{x + 6:.1f}" y="{y + 17:.1f}">wanted</text>',
    ]


def _lines(axes: _Axes, points: Sequence[Point]) -> list[str]:
    out = []
    taken: list[tuple[float, float]] = []
    codecs = list(dict.fromkeys(p.codec for p in points))
    ends = {name: [p for p in points if p.codec == name][-1] for name in codecs}
    for name in sorted(codecs, key=lambda n: axes.y(ends[n].kld), reverse=True):
        colour = f"c{codecs.index(name) % _COLOURS}"
        mine = [(axes.x(p.ratio), axes.y(p.kld), p) for p in points if p.codec == name]
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in mine)
        out.append(f'<polyline class="line {colour}" points="{places}"/>')
        for x, y, p in mine:
            said = clean(f"{p.label}: {p.ratio:.1f}x, KLD {p.kld:.2g}")
            out.append(
                f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{said}</title></circle>'
            )
        # Lines rise to the right: above the end and left of it there is room.
        x, y = mine[-1][0] - 6, mine[-1][1] - 8
        while any(abs(x - a) < LETTER * len(name) and abs(y - b) < LINE for a, b in taken):
            y -= LINE
        taken.append((x, y))
        out.append(
            f'<text class="name {colour}" x="{x:.1f}" y="{y:.1f}" text-anchor="end">{clean(name)}</text>'
        )
    return out
