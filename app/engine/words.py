"""How figures stand in sentences, here and on the screen: binary units, three digits, commas."""

from __future__ import annotations

import re

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


def three_digits(value: float) -> str:
    """``value`` (0 to 999.5) with three significant digits at most: 1.02, 57.2, 832."""
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}"


def size(n_bytes: float) -> str:
    """Bytes for people: ``0 B``, ``832 MiB``, ``1.02 GiB``."""
    if n_bytes < 0:
        return "-" + size(-n_bytes)
    if n_bytes < 999.5:
        return f"{n_bytes:.0f} B"
    value, unit = float(n_bytes), 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{three_digits(value)} {UNITS[unit]}"


def tokens(n: int) -> str:
    """``1 token``, ``16,384 tokens``."""
    return f"{n:,} token" + ("" if n == 1 else "s")


def label(type_k: str, type_v: str, tail: int = 0) -> str:
    """``q8_0``, ``q8_0/q4_0``, ``tq3+256``."""
    name = type_k if type_k == type_v else f"{type_k}/{type_v}"
    return f"{name}+{tail}" if tail else name


def without_controls(text: str, limit: int = 0) -> str:
    """Foreign text on one line, cut to ``limit`` characters (0: no limit)."""
    line = _CONTROL.sub(" ", text).strip()
    return line[:limit] if limit else line
