"""What runs and how long it still takes: one line for a person who watches, lines for a file or a pipe."""

from __future__ import annotations

import shutil
import sys
from time import monotonic
from typing import TextIO

from app.plain_text import one_line

_SECONDS = 0.1


class StatusLine:
    """A line on standard error that is written over and over."""

    def __init__(self, watched: bool | None = None) -> None:
        """
        Args:
            watched: whether a person sees it; by default whether standard error is a terminal.
        """
        self._watched = sys.stderr.isatty() if watched is None else watched
        self._shown = False
        self._last = 0.0

    def show(self, text: str) -> None:
        """Write ``text`` in place of what is there, at most ten times per second."""
        if not self._watched or monotonic() - self._last < _SECONDS:
            return
        self._last = monotonic()
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
