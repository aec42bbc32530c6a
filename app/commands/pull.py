"""``stretch pull``: download a model from the hub."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app import paths
from quantize.errors import ModelFileError

if TYPE_CHECKING:
    from app.fetch.wanted import Wanted

HELP = "Download a model from the hub; goes on where an earlier download stopped."

EPILOG = """\
NAME is owner/repo (the quantization that suits this machine), owner/repo:Q4_K_M, owner/repo/file.gguf,
an address of the hub's pages, or a name of the catalog (see stretch models).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="NAME", help="a model on the hub")
    parser.add_argument("--force", action="store_true", help="even if it would not run here")
    parser.add_argument("--json", action="store_true", help="print one JSON object when it is there")


def run(args: argparse.Namespace) -> int:
    """Download it and print where it is.

    Raises:
        HubError: if the hub does not give it.
        ModelFileError: if it would not run here.
    """
    from app.fetch.wanted import needed_hub_name
    from models.hub.session import is_offline

    name = needed_hub_name(args.model)
    if is_offline():
        from models.hub.places import find_here

        here = find_here(paths.models_dir(), name)
        if here is not None:
            return _print(args, here, str(name))
    path, called = pull(args.model, force=args.force, quiet=args.json)
    return _print(args, path, called)


def pull(text: str, *, force: bool = False, quiet: bool = False) -> tuple[Path, str]:
    """Choose, judge and download.

    Returns:
        Its file and its full name on the hub.

    Raises:
        HubError: if the hub does not give it.
        ModelFileError: if it would not run here.
    """
    from app.fetch.download import download
    from app.fetch.quants import lines_of
    from app.fetch.wanted import look_up, needed_hub_name
    from app.lab.status_line import StatusLine
    from app.lab.table import has_colour
    from models.hub.client import Hub
    from models.hub.prospects import Prospects
    from models.memory import memory

    hub, line = Hub(), StatusLine()
    try:
        with Prospects(hub, lambda: memory().available) as prospects:
            wanted = look_up(prospects, needed_hub_name(text), line.show)
    finally:
        line.clear()
    if wanted.all and not quiet:
        print("\n".join(lines_of(wanted, colour=has_colour())), file=sys.stderr)
    _check(wanted, force)
    if not quiet:
        print(describe(wanted), file=sys.stderr)
    try:
        return download(hub, wanted.repo, wanted.model, line), wanted.name
    except KeyboardInterrupt:
        print(
            f"\nWhat is here is kept: stretch pull {wanted.name} goes on from there.", file=sys.stderr, end=""
        )
        raise


def describe(wanted: Wanted) -> str:
    """Name, size, license and verdict in one line."""
    from app.engine.words import size
    from app.plain_text import one_line

    verdict = wanted.prospect.verdict
    facts = [size(wanted.model.size), verdict.license or wanted.repo.license, verdict.sentence]
    return f"{one_line(wanted.name, 120)}: {', '.join(one_line(fact, 120) for fact in facts if fact)}"


def _check(wanted: Wanted, force: bool) -> None:
    verdict = wanted.prospect.verdict
    if not verdict.runnable and not force:
        sentence = verdict.sentence
        if not sentence.endswith("."):
            sentence = f"{wanted.model.path} {sentence}."
        hint = verdict.instead or "Choose a smaller quantization or model."
        raise ModelFileError(sentence, f"{hint} --force downloads it all the same.")


def _print(args: argparse.Namespace, path: Path, name: str) -> int:
    if args.json:
        print(json.dumps({"name": name, "path": str(path), "bytes": path.stat().st_size}, ensure_ascii=False))
    else:
        print(path)
    return 0
