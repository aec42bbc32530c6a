"""The picture of an evaluation: KLD against bytes per token, drawn as SVG without a library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

from quantize.lab.evaluate import Row
from quantize.lab.verdict import measured, pareto_front

WIDTH, HEIGHT = 880, 560
LEFT, RIGHT, TOP, BOTTOM = 84, 28, 76, 76
LETTER = 7.0
"""Width of a letter of a label, about."""
LINE = 15.0
RADIUS = 5.0

_STYLE = """
svg { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; background: #ffffff; }
.ground { fill: #ffffff; } text { fill: #24292f; } .title { font-size: 17px; font-weight: 600; }
.soft { fill: #57606a; } .grid { stroke: #d8dee4; stroke-width: 1; } .axis { stroke: #8c959f; }
.front { fill: none; stroke: #0969da; stroke-width: 2; stroke-linejoin: round; }
.point { fill: #8c959f; } .best { fill: #0969da; } .chosen { fill: none; stroke: #1a7f37; stroke-width: 2.5; }
.lead { stroke: #8c959f; stroke-width: 1; } .strong { font-weight: 600; }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; } .ground { fill: #0d1117; } text { fill: #e6edf3; } .soft { fill: #9198a1; }
.grid { stroke: #262c36; } .axis, .lead { stroke: #656c76; } .point { fill: #848d97; }
.front { stroke: #4493f8; } .best { fill: #4493f8; } .chosen { stroke: #3fb950; } }
"""


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: _Box) -> float:
        """Area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)


@dataclass(frozen=True, slots=True)
class _Label:
    row: Row
    x: float
    y: float
    box: _Box


class _Axes:
    """From figures to places. The reference's KLD of zero stands on the lower edge."""

    def __init__(self, rows: Sequence[Row]) -> None:
        sizes = [row.size for row in rows]
        values = [row.kld_mean for row in rows if row.kld_mean]
        low, high = (min(values), max(values)) if values else (0.001, 0.1)
        self.low = 10.0 ** (math.floor(math.log10(low)) - (1 if any(not r.kld_mean for r in rows) else 0))
        self.high = 10.0 ** max(math.ceil(math.log10(high)), math.log10(self.low) + 1)
        self.step = _step(max(sizes) * 1.08)
        self.most = max(sizes) * 1.08

    def x(self, size: float) -> float:
        return LEFT + size / self.most * (WIDTH - LEFT - RIGHT)

    def y(self, kld: float) -> float:
        kld = max(kld, self.low)
        share = math.log10(kld / self.low) / math.log10(self.high / self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _step(most: float) -> float:
    """A round distance between 5 to 10 marks."""
    rough = most / 8
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough)


def clean(text: str, limit: int = 80) -> str:
    """Foreign text (a model's name) for XML: no control characters, no markup, not too long."""
    kept = "".join(c if c.isprintable() else "\ufffd" for c in text)
    kept = kept.encode("utf-8", "replace").decode("utf-8")
    return escape(kept if len(kept) <= limit else kept[: limit - 1] + "\u2026", {'"': "&quot;", "'": "&#39;"})


def draw(rows: Sequence[Row], *, title: str, subtitle: str = "", recommended: str = "") -> str:
    """An SVG document.

    Args:
        rows: those without a KLD are left out.
        title: foreign text is made harmless.
        recommended: label of the setting to mark.
    """
    rows = measured(rows)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{clean(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="32">{clean(title)}</text>',
        f'<text class="soft" x="{LEFT}" y="54">{clean(subtitle, 120)}</text>',
    ]
    if rows:
        axes = _Axes(rows)
        front = pareto_front(rows)
        out += _grid(axes)
        out += _front(axes, front)
        out += _points(axes, rows, front, recommended)
    return "\n".join([*out, "</svg>", ""])


def _grid(axes: _Axes) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    out = []
    for power in range(round(math.log10(axes.low)), round(math.log10(axes.high)) + 1):
        y = axes.y(10.0**power)
        out.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        out.append(
            f'<text class="soft" x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{_power(power)}</text>'
        )
    for i in range(math.floor(axes.most / axes.step) + 1):
        x = axes.x(i * axes.step)
        out.append(f'<line class="axis" x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 5}"/>')
        out.append(
            f'<text class="soft" x="{x:.1f}" y="{bottom + 22}" text-anchor="middle">'
            f"{i * axes.step:,.10g}</text>"
        )
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    return [
        *out,
        f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>',
        f'<text x="{(LEFT + right) / 2:.0f}" y="{HEIGHT - 24}" text-anchor="middle">'
        "bytes per token of the context (a window of exact tokens included)</text>",
        f'<text transform="translate(24 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        "mean KLD to f16, nats (lower is closer)</text>",
    ]


def _power(power: int) -> str:
    """``1``, ``.01``, ``1e-5``."""
    if power >= 0:
        return f"{10**power:,}"
    return f"{10.0**power:.{-power}f}".lstrip("0") if power > -4 else f"1e{power}"


def _front(axes: _Axes, front: Sequence[Row]) -> list[str]:
    if len(front) < 2:
        return []
    places = " ".join(f"{axes.x(r.size):.1f},{axes.y(r.kld_mean or 0.0):.1f}" for r in front)
    return [f'<polyline class="front" points="{places}"><title>Pareto front</title></polyline>']


def _points(axes: _Axes, rows: Sequence[Row], front: Sequence[Row], recommended: str) -> list[str]:
    out = []
    best = {row.label for row in front}
    for label in _place_labels(axes, rows, front):
        row, x, y, box = label.row, label.x, label.y, label.box
        kind = "best" if row.label in best else "point"
        said = f"{row.label}: KLD {row.kld_mean:.4g}, {row.size:,.0f} bytes per token"
        if not box.left - 12 <= x <= box.right + 12 or not box.top - 12 <= y <= box.bottom + 12:
            near_x = min(max(x, box.left), box.right)
            near_y = box.bottom if box.bottom < y else box.top
            out.append(f'<line class="lead" x1="{x:.1f}" y1="{y:.1f}" x2="{near_x:.1f}" y2="{near_y:.1f}"/>')
        out.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}">'
            f"<title>{clean(said)}</title></circle>"
        )
        if row.label == recommended:
            out.append(f'<circle class="chosen" cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS + 4}"/>')
        strong = ' class="strong"' if row.label == recommended else ""
        out.append(f'<text{strong} x="{box.left:.1f}" y="{box.bottom - 3.5:.1f}">{clean(row.label)}</text>')
    return out


def _place_labels(axes: _Axes, rows: Sequence[Row], front: Sequence[Row]) -> list[_Label]:
    """Put each label where it covers least of the points, the line and the labels before it."""
    points = [(axes.x(r.size), axes.y(r.kld_mean or 0.0)) for r in rows]
    taken = [_Box(x - RADIUS - 1, y - RADIUS - 1, x + RADIUS + 1, y + RADIUS + 1) for x, y in points]
    taken += _line_boxes([(axes.x(r.size), axes.y(r.kld_mean or 0.0)) for r in front])
    labels = []
    for row, (x, y) in sorted(zip(rows, points, strict=True), key=lambda p: p[1]):
        width = LETTER * len(row.label)
        choices = [_at(x, y, width, dx, dy) for dx, dy in _DIRECTIONS]
        box = min(
            enumerate(choices),
            key=lambda c: (round(sum(c[1].overlap(t) for t in taken) + _outside(c[1])), c[0]),
        )[1]
        taken.append(box)
        labels.append(_Label(row, x, y, box))
    return labels


_DIRECTIONS = [
    (dx * reach, dy * reach)
    for reach in (1.0, 1.8, 2.8, 4.0)
    for dx, dy in ((1, 0), (1, -1), (0, -1), (1, 1), (0, 1), (-1, -1), (-1, 0), (-1, 1))
]
"""Where a label may stand, seen from its point; the first ones are preferred."""


def _at(x: float, y: float, width: float, dx: float, dy: float) -> _Box:
    middle_x = x + dx * 11 + math.copysign(width / 2, dx) * (dx != 0)
    middle_y = y + dy * 15
    return _Box(middle_x - width / 2, middle_y - LINE / 2, middle_x + width / 2, middle_y + LINE / 2)


def _outside(box: _Box) -> float:
    """A large number if the box leaves the drawing."""
    inside = box.left > LEFT and box.right < WIDTH - 4 and box.top > TOP - 10 and box.bottom < HEIGHT - BOTTOM
    return 0.0 if inside else 1e6


def _line_boxes(places: Sequence[tuple[float, float]]) -> list[_Box]:
    """Small boxes along a line through these places."""
    boxes = []
    for (x0, y0), (x1, y1) in pairwise(places):
        n = max(1, round(math.hypot(x1 - x0, y1 - y0) / 6))
        for i in range(n + 1):
            x, y = x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n
            boxes.append(_Box(x - 2, y - 2, x + 2, y + 2))
    return boxes
