"""``stretch search``: find GGUF models on the hub."""

from __future__ import annotations

import argparse
import json
import sys

HELP = "Find models on the hub; stretch plan hf:owner/repo then says what would run here."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "words", metavar="TEXT", nargs="*", help="words of the name; none lists the most used"
    )
    parser.add_argument("-n", "--limit", metavar="N", type=_number, default=20, help="show at most N (20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 200):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 200")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Print what the hub finds.

    Raises:
        HubError: if it cannot be asked.
    """
    from dataclasses import asdict

    from app.lab.table import Column, Table, has_colour
    from app.plain_text import one_line
    from models.hub.client import Hub

    found = Hub().search(" ".join(args.words), args.limit)
    if args.json:
        for item in found:
            print(json.dumps(asdict(item), ensure_ascii=False))
        return 0
    if not found:
        print("The hub has no GGUF model of this name.", file=sys.stderr)
        return 0
    width = max(len(one_line(item.repo, 96)) for item in found)
    columns = [
        Column("model", width, left=True),
        Column("weights", 7, 1),
        Column("downloads", 9, 2),
        Column("license", 20, 3, left=True),
    ]
    table = Table(columns)
    print(table.head(colour=has_colour()))
    for item in found:
        note = " (gated)" if item.gated else ""
        license = one_line(item.license or "?", 20) + note
        print(
            table.line([one_line(item.repo, 96), weights(item.n_parameters), f"{item.downloads:,}", license])
        )
    return 0


def weights(n: int) -> str:
    """A number of parameters as models are called: ``4.0B``, ``270M``."""
    if not n:
        return "?"
    return f"{n / 1e9:.1f}B" if n >= 950_000_000 else f"{n / 1e6:.0f}M"
