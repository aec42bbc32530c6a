"""Drawings as SVG without a library: one look in light and dark, and the parts that the pictures share.

Only the standard library is imported, so that a machine without llama.cpp can draw, too. Functions that
draw give one line of the document; ``document`` puts them together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Final
from xml.sax.saxutils import escape

LETTER = 7.0
"""Width of a letter of a label, about, at 13 px."""
LINE = 15.0
"""Height of a label."""

_LIGHT: Final[Mapping[str, str]] = {
    "ground": "#ffffff",
    "ink": "#24292f",
    "soft": "#57606a",
    "grid": "#d8dee4",
    "axis": "#8c959f",
    "pale": "#c4cad1",
    "blue": "#0969da",
    "green": "#1a7f37",
    "orange": "#bc4c00",
    "purple": "#8250df",
    "pink": "#bf3989",
}
_DARK: Final[Mapping[str, str]] = {
    "ground": "#0d1117",
    "ink": "#e6edf3",
    "soft": "#9198a1",
    "grid": "#262c36",
    "axis": "#656c76",
    "pale": "#474e57",
    "blue": "#4493f8",
    "green": "#3fb950",
    "orange": "#f0883e",
    "purple": "#a371f7",
    "pink": "#db61a2",
}
_FONT = """
svg { font: ${size}px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; }
.title { font-size: ${title}px; font-weight: 600; } .strong { font-weight: 600; }
"""
_RULES = """\
svg { background: $ground; } .ground { fill: $ground; } text { fill: $ink; } .soft { fill: $soft; }
.grid { stroke: $grid; } .axis { stroke: $axis; }
"""


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture and the field in it that the figures are drawn in."""

    width: int
    height: int
    left: float
    """Margins around the field."""
    right: float
    top: float
    bottom: float
    font: int = 13

    @property
    def right_edge(self) -> float:
        return self.width - self.right

    @property
    def bottom_edge(self) -> float:
        return self.height - self.bottom

    @property
    def middle(self) -> tuple[float, float]:
        """Of the field."""
        return (self.left + self.right_edge) / 2, (self.top + self.bottom_edge) / 2


@dataclass(frozen=True, slots=True)
class Scale:
    """From figures to places along one axis: ``low`` stands at ``at_low``, ``high`` at ``at_high``."""

    low: float
    high: float
    at_low: float
    at_high: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The place of a figure. On a logarithmic scale what is below ``low`` (a zero) stands at ``low``."""
        if self.logarithmic:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.at_low + share * (self.at_high - self.at_low)


def decades(values: Iterable[float]) -> tuple[float, float]:
    """The powers of ten around ``values``, which are above 0; at least one decade."""
    values = list(values)
    low = math.floor(math.log10(min(values)))
    return 10.0**low, 10.0 ** max(math.ceil(math.log10(max(values))), low + 1)


def powers(low: float, high: float) -> list[tuple[float, str]]:
    """The powers of ten from ``low`` to ``high`` with their names: ``10``, ``1``, ``.01``, ``1e-5``."""
    exponents = range(round(math.log10(low)), round(math.log10(high)) + 1)
    return [(10.0**power, _power(power)) for power in exponents]


def _power(power: int) -> str:
    if power >= 0:
        return f"{10**power:,}"
    return f"{10.0**power:.{-power}f}".lstrip("0") if power > -4 else f"1e{power}"


def round_step(span: float, marks: int) -> float:
    """A round distance for about ``marks`` marks, never more, along ``span``, which is above 0."""
    rough = span / marks
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)


def clean(words: str, limit: int = 80) -> str:
    """Foreign text (a model's name) for XML: no control characters, no markup, not too long."""
    kept = "".join(c if c.isprintable() else "\ufffd" for c in words)
    kept = kept.encode("utf-8", "replace").decode("utf-8")
    return escape(kept if len(kept) <= limit else kept[: limit - 1] + "\u2026", {'"': "&quot;", "'": "&#39;"})


def document(
    frame: Frame, title: str, body: Sequence[str], *, rules: str = "", subtitle: str = "", note: str = ""
) -> str:
    """A whole SVG document.

    Args:
        title: drawn above the field; foreign text is made harmless, here and in the other words.
        body: what else is drawn, later things over earlier ones.
        rules: CSS of the picture's own classes; ``$blue``, ``$soft`` and so on are colours, each in light
            and in dark.
        subtitle: below the title.
        note: right of the title.
    """
    rules = _RULES + rules.lstrip("\n")
    style = (
        Template(_FONT).substitute(size=frame.font, title=round(frame.font * 1.3))
        + Template(rules).substitute(_LIGHT)
        + "@media (prefers-color-scheme: dark) {\n"
        + Template(rules).substitute(_DARK)
        + "}\n"
    )
    head = frame.font * 2.4
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {frame.width} {frame.height}" '
            f'width="{frame.width}" height="{frame.height}" role="img">',
            f"<title>{clean(title)}</title>",
            f"<style>{style}</style>",
            f'<rect class="ground" width="{frame.width}" height="{frame.height}"/>',
            text("title", frame.left, head, title),
            *([text("soft", frame.left, head + 22, subtitle, limit=120)] if subtitle else []),
            *([text("soft", frame.right_edge, head, note, anchor="end")] if note else []),
            *body,
            "</svg>",
            "",
        ]
    )


def rows_of_grid(frame: Frame, scale: Scale, marks: Iterable[tuple[float, str]]) -> list[str]:
    """A line across the field for each mark, with its name on the left."""
    out = []
    for value, name in marks:
        y = scale(value)
        out.append(line("grid", frame.left, y, frame.right_edge, y))
        out.append(text("soft", frame.left - 9, y + 4, name, anchor="end"))
    return out


def foot(frame: Frame, scale: Scale, marks: Iterable[tuple[float, str]], words: str) -> list[str]:
    """The horizontal axis: a tick and a name for each mark, and what it shows."""
    y = frame.bottom_edge
    out = [line("axis", frame.left, y, frame.right_edge, y)]
    for value, name in marks:
        x = scale(value)
        out.append(line("axis", x, y, x, y + 5))
        out.append(text("soft", x, y + 9 + frame.font, name, anchor="middle"))
    return [*out, text("", frame.middle[0], y + 20 + 2 * frame.font, words, anchor="middle")]


def side(frame: Frame, words: str) -> str:
    """What the vertical axis shows, along the left edge."""
    return (
        f'<text transform="translate(24 {frame.middle[1]:.0f}) rotate(-90)" text-anchor="middle">'
        f"{clean(words)}</text>"
    )


def text(kind: str, x: float, y: float, words: str, *, anchor: str = "", limit: int = 80) -> str:
    """Words whose base line begins at (or, by ``anchor``, ends at or is around) a place."""
    kind = f' class="{kind}"' if kind else ""
    anchor = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}"{anchor}>{clean(words, limit)}</text>'


def line(kind: str, x0: float, y0: float, x1: float, y1: float, said: str = "") -> str:
    """A straight line."""
    return (
        f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"{_ended("line", said)}'
    )


def path(kind: str, places: Iterable[tuple[float, float]], said: str = "") -> str:
    """A line through places."""
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline class="{kind}" points="{points}"{_ended("polyline", said)}'


def circle(kind: str, x: float, y: float, radius: float, said: str = "") -> str:
    """A circle."""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"{_ended("circle", said)}'


def _ended(name: str, said: str) -> str:
    """The rest of an element; ``said`` appears where the mouse rests on it."""
    return f"><title>{clean(said)}</title></{name}>" if said else "/>"
