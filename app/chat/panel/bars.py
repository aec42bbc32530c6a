"""Bars and sparklines as text: pure functions, each returning exactly the width it was asked for.

A piece is a text and the name of its style. A style ``"a|b"`` is one cell with two colours:
the text in the colour of ``a`` on the colour of ``b``; it is how two segments of a bar share
a cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len

from app.chat.format import clip
from app.chat.panel.glyphs import Glyphs


class Piece(NamedTuple):
    """A run of text in one style."""

    text: str
    style: str = ""


Line = tuple[Piece, ...]
"""One line of a widget."""


def line_width(line: Line) -> int:
    """Cells that a line takes."""
    return sum(cell_len(piece.text) for piece in line)


def bar(fraction: float, width: int, style: str, g: Glyphs, track: str = "track") -> Line:
    """A bar that is filled by ``fraction`` (0 to 1) of ``width`` cells."""
    return segments((fraction,), (style,), width, g, track)


def segments(
    fractions: Sequence[float],
    styles: Sequence[str],
    width: int,
    g: Glyphs,
    track: str = "track",
    fills: Sequence[str] = (),
) -> Line:
    """Segments laid end to end in one bar, each ``fractions[i]`` of the whole width long.

    Every edge lies within half a step (an eighth of a cell with smooth glyphs) of its true
    place, so the lengths of the segments sum to the length of their sum. What exceeds the
    bar is cut off.

    Args:
        fills: A character per segment instead of the full block (textures, where colours
            cannot tell the segments apart); cells are then not divided.
    """
    if width <= 0:
        return ()
    steps = 1 if fills else len(g.parts) + 1
    total = width * steps
    edges = [0]
    position = 0.0
    for fraction in fractions:
        position += max(0.0, fraction) if math.isfinite(fraction) else 0.0
        edges.append(min(total, round(position * total)))
    pieces: list[Piece] = []
    x = 0
    for i, style in enumerate(styles):
        # Whole cells of this segment; a cell that it shares with another comes before them.
        first, last = -(-edges[i] // steps), edges[i + 1] // steps
        if first > x:
            pieces.append(_shared_cell(edges, x, steps, styles, g, track))
            x = first
        if last > first:
            pieces.append(Piece((fills[i] if fills else g.full) * (last - first), style))
            x = last
    if x * steps < edges[-1]:
        pieces.append(_shared_cell(edges, x, steps, styles, g, track))
        x += 1
    if x < width:
        pieces.append(Piece(g.track * (width - x), track))
    return tuple(pieces)


def _shared_cell(
    edges: Sequence[int], x: int, steps: int, styles: Sequence[str], g: Glyphs, track: str
) -> Piece:
    """A cell in which something ends: two colours at most can be shown in it."""
    left, right = x * steps, (x + 1) * steps
    parts = [
        (min(edges[i + 1], right) - max(edges[i], left), style)
        for i, style in enumerate(styles)
        if edges[i + 1] > max(edges[i], left) and edges[i] < right
    ]
    filled = sum(length for length, _ in parts)
    if filled == steps:
        # Of three segments in one cell the longest of the later ones stays.
        length, first = parts[0]
        return Piece(g.parts[length - 1], f"{first}|{max(parts[1:])[1]}")
    return Piece(g.parts[filled - 1], f"{max(parts)[1]}|{track}")


def thin_bar(fraction: float, width: int, style: str, g: Glyphs, beyond: float = 0.0) -> Line:
    """A bar of a line's thickness; from ``fraction`` to ``beyond`` it is drawn as what could be."""
    steps = 2 if g.half_line else 1
    end = round(min(1.0, max(0.0, fraction)) * width * steps)
    beyond_end = round(min(1.0, max(fraction, beyond)) * width)
    whole, half = divmod(end, steps)
    open_from = whole + half
    runs = (
        Piece(g.line * whole, style),
        Piece(g.half_line * half, style),
        Piece(g.thin * max(0, beyond_end - open_from), "beyond"),
        Piece(g.thin_track * (width - max(open_from, beyond_end)), "track"),
    )
    return tuple(piece for piece in runs if piece.text)


def join(cells: Iterable[tuple[str, str]]) -> Line:
    """Neighbouring cells of one style become one piece."""
    pieces: list[Piece] = []
    for text, style in cells:
        if pieces and pieces[-1].style == style:
            pieces[-1] = Piece(pieces[-1].text + text, style)
        else:
            pieces.append(Piece(text, style))
    return tuple(pieces)


def clip_line(line: Line, width: int) -> Line:
    """``line`` cut to ``width`` cells."""
    pieces: list[Piece] = []
    room = width
    for piece in line:
        text = clip(piece.text, room)
        if text:
            pieces.append(Piece(text, piece.style))
        if text != piece.text:
            break
        room -= cell_len(text)
    return tuple(pieces)


def overlay(line: Line, x: int, piece: Piece) -> Line:
    """``line`` with ``piece`` (one cell wide glyphs) written over it from cell ``x`` on."""
    cells = [(char, p.style) for p in line for char in p.text]
    for i, char in enumerate(piece.text):
        if 0 <= x + i < len(cells):
            cells[x + i] = (char, piece.style)
    return join(cells)


def log_fraction(value: float, low: float, high: float) -> float:
    """Where ``value`` lies between ``low`` (0) and ``high`` (1) on a logarithmic scale."""
    if value <= low or high <= low:
        return 0.0
    return min(1.0, math.log(value / low) / math.log(high / low))


def sparkline(values: Sequence[float], rows: int, low: float, high: float, g: Glyphs) -> tuple[str, ...]:
    """One column per value, ``rows`` lines, the top one first.

    ``low`` is drawn as the smallest mark and ``high`` fills the column; NaN leaves it empty.
    """
    levels = len(g.heights) - 1
    top = rows * levels
    heights: list[int] = []
    for value in values:
        if math.isnan(value):
            heights.append(0)
            continue
        share = (value - low) / (high - low) if high > low else 0.0
        heights.append(1 + round(min(1.0, max(0.0, share)) * (top - 1)))
    lines = []
    for row in range(rows - 1, -1, -1):
        lines.append("".join(g.heights[min(levels, max(0, h - row * levels))] for h in heights))
    return tuple(lines)
