"""Tables that are printed row by row while they are measured."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

_CODES = {"bold": "\x1b[1m", "dim": "\x1b[2m", "mark": "\x1b[36m", "good": "\x1b[32m", "bad": "\x1b[31m"}


def has_colour() -> bool:
    """Whether standard output takes colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str, *, colour: bool) -> str:
    """``text`` in a style (names of ``_CODES``, joined by spaces), or as it is without colour."""
    codes = "".join(_CODES[name] for name in style.split())
    return f"{codes}{text}\x1b[0m" if colour and codes else text


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    title: str
    width: int
    rank: int = 0
    """Columns with the highest rank go first where the terminal is too narrow; 0 always stays."""
    left: bool = False


class Table:
    """Columns of fixed width, chosen to fit the terminal."""

    def __init__(self, columns: Sequence[Column], width: int = 0, gap: int = 2) -> None:
        """
        Args:
            width: of the terminal; 0 asks it. Where output is no terminal every column is shown.
        """
        if not width:
            width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 10_000
        self._gap = " " * gap
        self._columns = list(columns)
        shown = list(range(len(columns)))
        while sum(columns[i].width + gap for i in shown) - gap > width:
            widest = max(shown, key=lambda i: columns[i].rank)
            if columns[widest].rank == 0:
                break
            shown.remove(widest)
        self._shown = shown

    def head(self, *, colour: bool) -> str:
        """The line of titles."""
        return styled(self.line([c.title for c in self._columns]), "bold", colour=colour)

    def line(self, cells: Sequence[str], styles: Sequence[str] = (), *, colour: bool = False) -> str:
        """One row; cells that are too long push the rest of their line."""
        out = []
        for i in self._shown:
            column, text = self._columns[i], cells[i]
            padded = f"{text:<{column.width}}" if column.left else f"{text:>{column.width}}"
            style = styles[i] if i < len(styles) else ""
            out.append(styled(padded, style, colour=colour) if style else padded)
        return self._gap.join(out).rstrip()


def number(x: float | None, digits: int = 5) -> str:
    """A figure between 0 and a few, without the zero before the point: ``.01703``; empty for None."""
    if x is None:
        return ""
    if 0 < x < 0.5 * 10**-digits:
        return f"{x:.0e}".replace("e-0", "e-")
    text = f"{x:.{digits}f}"
    return text[1:] if text.startswith("0.") else text
