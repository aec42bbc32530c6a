"""How the engine writes figures in its sentences: binary units, three digits, commas."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(n_bytes: float) -> str:
    """``832 MiB``, ``1.02 GiB``."""
    if n_bytes < 0:
        return "-" + size(-n_bytes)
    value, unit = float(n_bytes), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    if unit == 0:
        return f"{value:.0f} B"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"


def tokens(n: int) -> str:
    """``1 token``, ``16,384 tokens``."""
    return f"{n:,} token" + ("" if n == 1 else "s")


def label(type_k: str, type_v: str, tail: int = 0) -> str:
    """``q8_0``, ``q8_0/q4_0``, ``tq3+256``."""
    name = type_k if type_k == type_v else f"{type_k}/{type_v}"
    return f"{name}+{tail}" if tail else name
