"""The characters that bars and marks are drawn with, in three grades.

``SMOOTH`` resolves an eighth of a cell. The Linux console's fonts lack those blocks, so it
gets ``COARSE``, whose characters exist in code page 437 already. ``ASCII`` is for streams
that cannot say anything else.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One set of characters; every one is a single cell wide."""

    full: str
    """A whole cell of a bar."""
    parts: tuple[str, ...]
    """A cell filled from the left by 1/n, 2/n ... (n-1)/n; empty if cells do not divide."""
    track: str
    """An empty cell of a bar."""
    beyond: str
    """A cell that could be had, but for another limit."""
    line: str
    """A cell of a thin bar."""
    half_line: str
    """The last cell of a thin bar that ends in its middle; empty if cells do not divide."""
    thin: str
    """A cell of a thin bar that could be had, but for another limit."""
    thin_track: str
    """An empty cell of a thin bar."""
    heights: str
    """A column of a sparkline, lowest first; the first stands for nothing at all."""
    swatch: str
    """A square of colour in a legend."""
    mark: str
    """What is current."""
    tick: str
    """A place on a scale."""
    here: str
    """The present length on a scale."""
    dot: str
    """Between parts of a line."""
    textures: tuple[str, ...]
    """Fills that can be told apart without colours, for the segments of a bar."""
    ellipsis: str = "…"


SMOOTH = Glyphs(
    full="█",
    parts=tuple("▏▎▍▌▋▊▉"),
    track="░",
    beyond="▒",
    line="━",
    half_line="╸",
    thin="─",
    thin_track="╌",
    heights=" ▁▂▃▄▅▆▇█",
    swatch="■",
    mark="▸",
    tick="┊",
    here="╋",
    dot="·",
    textures=("█", "▓", "▒", "▚", "▪", "▞"),
)

COARSE = Glyphs(
    full="█",
    parts=("▌",),
    track="░",
    beyond="▒",
    line="═",
    half_line="",
    thin="─",
    thin_track="·",
    heights=" ▄█",
    swatch="■",
    mark="►",
    tick="│",
    here="╪",
    dot="·",
    textures=("█", "▓", "▒", "▌", "■", "▐"),
    ellipsis="...",
)

ASCII = Glyphs(
    full="#",
    parts=(),
    track=".",
    beyond="+",
    line="=",
    half_line="",
    thin="-",
    thin_track=".",
    heights=" .:|#",
    swatch="#",
    mark=">",
    tick="|",
    here="+",
    dot="-",
    textures=("#", "%", "=", "o", ":", "x"),
    ellipsis="...",
)


def choose(encoding: str | None, term: str, wish: str = "") -> Glyphs:
    """The set that a terminal can show.

    Args:
        encoding: Of the stream that is written to.
        term: The value of ``TERM``.
        wish: ``smooth``, ``coarse`` or ``ascii`` decides it; anything else is ignored.
    """
    wished = {"smooth": SMOOTH, "coarse": COARSE, "ascii": ASCII}.get(wish.lower())
    if wished is not None:
        return wished
    if encoding is not None and "utf" not in encoding.lower():
        return ASCII
    return COARSE if term == "linux" else SMOOTH


@cache
def glyphs() -> Glyphs:
    """The set for the terminal of this process (``STRETCH_GLYPHS`` overrides it)."""
    stream = sys.__stdout__
    return choose(
        stream.encoding if stream is not None else None,
        os.environ.get("TERM", ""),
        os.environ.get("STRETCH_GLYPHS", ""),
    )
