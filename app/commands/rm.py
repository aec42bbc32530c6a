"""``stretch rm``: remove a downloaded model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app import paths
from quantize.errors import ModelNotFoundError, UsageError

HELP = "Remove a model that was downloaded, or an unfinished download."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("models", metavar="NAME", nargs="+", help="as stretch models lists them, or a path")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """Ask and remove.

    Raises:
        ModelNotFoundError: if a model is not there or is not Stretch's own.
        UsageError: if nobody can be asked and --yes is missing.
    """
    from app.engine.words import size
    from models.hub.places import remove

    own = paths.models_dir()
    found = [_find(text, own) for text in args.models]
    for path in found:
        if not args.yes and not _agreed(path):
            print("Nothing was removed.", file=sys.stderr)
            return 1
        print(f"{size(remove(own, path))} freed.")
    return 0


def _find(text: str, own: Path) -> Path:
    """The file of a downloaded model, or where an unfinished one will be."""
    from app.fetch.wanted import hub_name
    from models.hub.places import find_here, unfinished
    from models.resolve import BUILTIN

    if text in BUILTIN:
        raise ModelNotFoundError(f"{text} is a part of Stretch and is not removed.")
    path = Path(text).expanduser()
    if path.is_absolute() or path.exists():
        return path.absolute()
    name = hub_name(text)
    if name is not None:
        nowhere = own / "no cache"
        here = find_here(own, name, nowhere) if not name.file else own.joinpath(*str(name).split("/"))
        if here is not None:
            return here
        for begun in unfinished(own):
            if begun.identity.repo == name.repo:
                return begun.target
    raise ModelNotFoundError(f"{text!r} was not downloaded.", "stretch models lists what is there.")


def _agreed(path: Path) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("Nobody can be asked here whether to remove it.", "Say --yes.")
    from app.plain_text import one_line

    print(f"Remove {one_line(str(path))}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
