"""What runs and how long it still takes: one line for a person who watches, lines for a file or a pipe."""

from __future__ import annotations

import shutil
import sys
from time import monotonic
from typing import TextIO

from app.plain_text import one_line

_SECONDS = 0.1
_FILE_SECONDS = 15.0
"""Between two lines in a file: short runs leave none there."""


class StatusLine:
    """Says on standard error how far something is."""

    def __init__(self, watched: bool | None = None) -> None:
        """
        Args:
            watched: whether it is a line of a terminal; by default whether standard error is one.
        """
        self._watched = sys.stderr.isatty() if watched is None else watched
        self._shown = False
        self._last = 0.0 if self._watched else monotonic()

    def show(self, text: str) -> None:
        """Write ``text`` in place of what is there, at most ten times per second; without a terminal as a
        line of its own, at most four times per minute."""
        if monotonic() - self._last < (_SECONDS if self._watched else _FILE_SECONDS):
            return
        self._last = monotonic()
        if not self._watched:
            print(one_line(text, 200), file=sys.stderr, flush=True)
            return
        width = shutil.get_terminal_size((80, 24)).columns
        sys.stderr.write(f"\r\x1b[2K{one_line(text, width - 1)}")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away, so that something else can be printed."""
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
            self._shown = False
            self._last = 0.0


class Milestones:
    """Lines for a file or a pipe: one for every step of what runs, and one for every twentieth of the
    whole."""

    def __init__(self, out: TextIO | None = None) -> None:
        """``out``: standard error unless given."""
        self._out = out or sys.stderr
        self._what = ""
        self._next = 0.0

    def show(self, what: str, fraction: float) -> None:
        """Write a line if ``what`` is new or so much more is done."""
        if what == self._what and fraction < self._next:
            return
        self._what = what
        self._next = fraction + 0.05
        self._out.write(f"{one_line(what, 100)}, {fraction:.0%}\n")
        self._out.flush()


def duration(seconds: float) -> str:
    """``8 s``, ``2:05``, ``1:02:05``; an empty text if it is negative."""
    if seconds < 0:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
