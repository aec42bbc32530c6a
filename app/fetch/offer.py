"""Offers to download a model that was named and is not on this computer."""

from __future__ import annotations

import sys
from pathlib import Path

from app import paths


def offered(text: str) -> Path | None:
    """Ask whether to download the model that ``text`` names on the hub, and do it.

    Returns:
        Its file; None if ``text`` names nothing on the hub, nobody can be asked, or the answer is no.

    Raises:
        HubError: if the hub does not have it, or does not give it.
        ModelFileError: if it would not run here.
    """
    from app.fetch.wanted import hub_name, look_up

    name = hub_name(text)
    if name is None or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    from app.commands.pull import describe, pull
    from app.lab.status_line import StatusLine
    from models.hub.client import Hub
    from models.hub.places import find_here
    from models.hub.prospects import Prospects
    from models.memory import memory

    here = find_here(paths.models_dir(), name)  # a name of the catalog whose file is here
    if here is not None:
        return here
    line = StatusLine()
    try:
        with Prospects(Hub(), lambda: memory().available) as prospects:
            wanted = look_up(prospects, name, line.show)
    finally:
        line.clear()
    print(f"This model is not on this computer.\n{describe(wanted)}")
    print("Download it? [Y/n] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("", "y", "yes"):
        return None
    path, _ = pull(wanted.name, quiet=True)
    return path
