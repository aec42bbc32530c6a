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
