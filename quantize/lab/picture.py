"""The picture of an evaluation: KLD against bytes per token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from quantize.lab import svg
from quantize.lab.evaluate import Row
from quantize.lab.svg import Frame, Scale
from quantize.lab.verdict import measured, pareto_front

FRAME = Frame(width=880, height=560, left=84, right=28, top=76, bottom=76)
RADIUS = 5.0

_RULES = """
.front { fill: none; stroke: $blue; stroke-width: 2; stroke-linejoin: round; }
.point { fill: $axis; } .best { fill: $blue; } .chosen { fill: none; stroke: $green; stroke-width: 2.5; }
.lead { stroke: $axis; }
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
        low, high = svg.decades([row.kld_mean for row in rows if row.kld_mean] or [0.001, 0.1])
        if any(not row.kld_mean for row in rows):
            low /= 10
        self.most = max(row.size for row in rows) * 1.08
        self.x = Scale(0.0, self.most, FRAME.left, FRAME.right_edge)
        self.y = Scale(low, high, FRAME.bottom_edge, FRAME.top, logarithmic=True)

    def place(self, row: Row) -> tuple[float, float]:
        return self.x(row.size), self.y(row.kld_mean or 0.0)


def draw(rows: Sequence[Row], *, title: str, subtitle: str = "", recommended: str = "") -> str:
    """An SVG document.

    Args:
        rows: those without a KLD are left out.
        title: foreign text is made harmless.
        recommended: label of the setting to mark.
    """
    rows = measured(rows)
    body: list[str] = []
    if rows:
        axes = _Axes(rows)
        front = pareto_front(rows)
        step = svg.round_step(axes.most, 8)
        marks = [(i * step, f"{i * step:,.10g}") for i in range(math.floor(axes.most / step) + 1)]
        body += svg.rows_of_grid(FRAME, axes.y, svg.powers(axes.y.low, axes.y.high))
        body += svg.foot(
            FRAME, axes.x, marks, "bytes per token of the context (a window of exact tokens included)"
        )
        body.append(svg.side(FRAME, "mean KLD to f16, nats (lower is closer)"))
        if len(front) > 1:
            body.append(svg.path("front", map(axes.place, front), "Pareto front"))
        body += _points(axes, rows, front, recommended)
    return svg.document(FRAME, title, body, rules=_RULES, subtitle=subtitle)


def _points(axes: _Axes, rows: Sequence[Row], front: Sequence[Row], recommended: str) -> list[str]:
    out = []
    best = {row.label for row in front}
    for label in _place_labels(axes, rows, front, recommended):
        row, x, y, box = label.row, label.x, label.y, label.box
        kind = "best" if row.label in best else "point"
        said = f"{row.label}: KLD {row.kld_mean:.4g}, {row.size:,.0f} bytes per token"
        if not box.left - 16 <= x <= box.right + 16 or not box.top - 12 <= y <= box.bottom + 12:
            near_x = min(max(x, box.left), box.right)
            near_y = box.bottom if box.bottom < y else box.top
            out.append(svg.line("lead", x, y, near_x, near_y))
        out.append(svg.circle(kind, x, y, RADIUS, said))
        if row.label == recommended:
            out.append(svg.circle("chosen", x, y, RADIUS + 4))
        strong = "strong" if row.label == recommended else ""
        out.append(svg.text(strong, box.left, box.bottom - 3.5, row.label))
    return out


def _place_labels(axes: _Axes, rows: Sequence[Row], front: Sequence[Row], recommended: str) -> list[_Label]:
    """Put each label where it covers least of the points, the line and the labels before it."""
    points = [axes.place(row) for row in rows]
    taken = [_Box(x - RADIUS - 1, y - RADIUS - 1, x + RADIUS + 1, y + RADIUS + 1) for x, y in points]
    taken += _line_boxes([axes.place(row) for row in front])
    labels = []
    for row, (x, y) in sorted(zip(rows, points, strict=True), key=lambda p: p[1]):
        # The recommended one is written bold, beside a ring.
        width, gap = svg.LETTER * len(row.label), 11.0
        if row.label == recommended:
            width, gap = width * 1.1, gap + 4
        choices = [_at(x, y, width, gap, dx, dy) for dx, dy in _DIRECTIONS]
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


def _at(x: float, y: float, width: float, gap: float, dx: float, dy: float) -> _Box:
    middle_x = x + dx * gap + math.copysign(width / 2, dx) * (dx != 0)
    middle_y = y + dy * 15
    return _Box(middle_x - width / 2, middle_y - svg.LINE / 2, middle_x + width / 2, middle_y + svg.LINE / 2)


def _outside(box: _Box) -> float:
    """A large number if the box leaves the drawing."""
    across = box.left > FRAME.left and box.right < FRAME.width - 4
    inside = across and box.top > FRAME.top - 10 and box.bottom < FRAME.bottom_edge
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
