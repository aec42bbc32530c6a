"""How figures and foreign texts are written on the screen, the same everywhere.

Sizes of memory are binary and say so (1 GiB = 2^30 bytes), with three significant digits.
Thousands are set off with commas, decimals with a point. Every function that fills a column
has a width that it never exceeds, so that columns keep their place while the numbers move.

This module imports little: Rich's table of cell widths, and what the engine writes sizes with.
"""

from __future__ import annotations

import math
from datetime import datetime

from rich.cells import cell_len, set_cell_size

from app.engine.words import UNITS
from app.engine.words import size as size
from app.engine.words import three_digits as three_digits

SIZE_WIDTH = 8
"""Widest text that ``size`` returns for a size that is not negative (``57.2 MiB``)."""

RATE_WIDTH = 6
"""Widest text that ``rate`` returns (``12,345``)."""

DASH = "\N{EN DASH}"
"""Stands for a figure that is not known yet."""

MINUS = "\N{MINUS SIGN}"


def size_change(n_bytes: float) -> str:
    """A difference of sizes with its sign, written with the minus sign: ``+1.02 GiB``."""
    sign = MINUS if n_bytes < 0 else "+"
    return sign + size(abs(n_bytes))


def size_pair(part: float, whole: float, separator: str = "/") -> str:
    """Two sizes in the unit of the second, one decimal: ``7.9/15.4 GiB``.

    The first is padded to the width of the second, so the text keeps its width.
    """
    power = 0
    while whole / 1024**power >= 999.5 and power < len(UNITS) - 1:
        power += 1
    scale = 1024**power
    decimals = 0 if power == 0 else 1
    second = f"{whole / scale:.{decimals}f}"
    first = f"{part / scale:.{decimals}f}"
    return f"{first:>{len(second)}}{separator}{second} {UNITS[power]}"


def count(n: int) -> str:
    """``16384`` as ``16,384``."""
    return f"{n:,}"


def percent(part: float, whole: float) -> str:
    """``62%``. Cut, not rounded: 100% means full."""
    if whole <= 0:
        return "0%"
    return f"{math.floor(100 * part / whole + 1e-9)}%"


def rate(per_second: float) -> str:
    """Tokens per second: ``21.4``, ``412``, ``1,234``; a dash where there is none yet."""
    if per_second <= 0:
        return DASH
    if per_second >= 999.5:
        return f"{min(per_second, 99_999):,.0f}"
    return three_digits(per_second)


def duration(seconds: float) -> str:
    """``0.04 s``, ``1.3 s``, ``42 s``, ``2 min 05 s``, ``1 h 02 min``; a dash below zero."""
    if seconds < 0:
        return DASH
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def age(then: float, now: float) -> str:
    """How long ago ``then`` was (both in seconds since the epoch): ``now``, ``5 min``, ``3 h``,
    ``yesterday``, ``12 Mar``, ``12 Mar 2024``. At most 11 cells."""
    seconds = now - then
    if seconds < 60:
        return "now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min"
    there, here = datetime.fromtimestamp(then), datetime.fromtimestamp(now)
    days = (here.date() - there.date()).days
    if days == 0:
        return f"{int(seconds // 3600)} h"
    if days == 1:
        return "yesterday"
    if days < 7:
        return f"{days} days"
    month = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[
        there.month - 1
    ]
    return f"{there.day} {month}" + ("" if there.year == here.year else f" {there.year}")


def setting(type_k: str, type_v: str, tail: int = 0) -> str:
    """The name of a cache setting: ``q8_0``, ``q8_0/q4_0``, ``tq3+256`` with an exact window."""
    label = type_k if type_k == type_v else f"{type_k}/{type_v}"
    return f"{label}+{tail}" if tail else label


def clip(text: str, width: int, ellipsis: str = "…") -> str:
    """``text`` cut to ``width`` cells, with an ellipsis where something is missing."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return text
    room = max(0, width - cell_len(ellipsis))
    cut = set_cell_size(text, room) if room else ""
    return (cut.rstrip() + ellipsis)[: max(width, 1)] if cut.strip() else ellipsis[:width]


def clip_middle(text: str, width: int, ellipsis: str = "…") -> str:
    """``text`` cut to ``width`` cells in its middle: for paths, whose ends matter."""
    if cell_len(text) <= width:
        return text
    tail_width = max(0, (width - 1) * 2 // 3)
    tail = ""
    for char in reversed(text):
        if cell_len(char + tail) > tail_width:
            break
        tail = char + tail
    head = set_cell_size(text, max(0, width - 1 - cell_len(tail))).rstrip()
    return clip(f"{head}{ellipsis}{tail}", width)


def fit(text: str, width: int, align: str = "<") -> str:
    """``text`` in exactly ``width`` cells: clipped, then padded (``<`` or ``>``)."""
    text = clip(text, width)
    gap = " " * (width - cell_len(text))
    return gap + text if align == ">" else text + gap
