"""One line that says what the pipeline is doing, for whoever looks in from outside."""

from __future__ import annotations

import time
from pathlib import Path


def say(out: Path, what: str) -> None:
    """Replace the line in ``out/status.txt``."""
    path = out / "status.tmp"
    path.write_text(f"{time.strftime('%H:%M:%S')} {what}\n")
    path.replace(out / "status.txt")
