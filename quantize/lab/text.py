"""The text that is measured with."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from quantize.errors import UsageError

MAX_BYTES = 64 << 20
"""No text is longer: it is read whole."""


def built_in_text() -> str:
    """Eleven excerpts of public-domain prose, about 17,000 tokens (``data/README.md``)."""
    return files("quantize.lab").joinpath("data", "prose.txt").read_text(encoding="utf-8")


CALIBRATION_PART = 0.55
"""The built-in prose from here on is for calibrating: ``stretch eval`` measures with what stands before."""


def calibration_text() -> str:
    """What a model is calibrated with unless it is given another text: Python's own manual pages, which
    come with every Python, and the end of the built-in prose, which nothing is measured with."""
    prose = built_in_text()
    parts = [prose[int(len(prose) * CALIBRATION_PART) :]]
    try:
        from pydoc_data.topics import topics
    except ImportError:
        pass
    else:
        parts.insert(0, "\n\n".join(topics.values())[:22_000])
    return "\n\n".join(parts)


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        UsageError: if it cannot be read, holds no text or is absurdly long.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path.name} is longer than {MAX_BYTES >> 20} MiB.", "Give a part of it.")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"The text {path} cannot be read: {error.strerror or error}.") from error
    if not text.strip():
        raise UsageError(f"{path.name} holds no text.")
    return text
