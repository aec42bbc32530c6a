"""``stretch park``: what conversations that were put away take on the disk."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

HELP = "Show what parked conversations take on the disk, or remove them."


@dataclass(frozen=True, slots=True)
class _Row:
    """One parked conversation."""

    conversation: int
    title: str
    n_bytes: int
    n_tokens: int
    ratio: float
    codec: str
    age: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("what", choices=("stats", "clear"), nargs="?", default="stats", help="what to do")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Show the files, or remove them.

    Raises:
        StoreError: if the conversations cannot be read.
    """
    from app.chat.format import size
    from app.store.parked import drop, parked_files

    files = parked_files()
    if args.what == "clear":
        for file in files:
            drop(file.conversation)
        print(f"{len(files)} parked conversations were removed; they are read again when you open them.")
        return 0
    rows = _rows()
    if args.json:
        print(json.dumps({"files": [_plain(row) for row in rows], "n_bytes": sum(r.n_bytes for r in rows)}))
        return 0
    if not rows:
        print("Nothing is parked.")
        return 0
    print(f"{'id':>5} {'tokens':>7} {'size':>9} {'smaller':>8}  {'codec':<16} {'used':<10} title")
    for row in rows:
        print(
            f"{row.conversation:>5} {row.n_tokens:>7,} {size(row.n_bytes):>9} {row.ratio:>7.1f}x  "
            f"{row.codec:<16} {row.age:<10} {row.title}"
        )
    total = sum(row.n_bytes for row in rows)
    print(f"{len(rows)} conversations, {size(total)}; as f16 caches {size(sum(_f16(row) for row in rows))}.")
    return 0


def _f16(row: _Row) -> int:
    return round(row.n_bytes * row.ratio)


def _plain(row: _Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _Row.__slots__}


def _rows() -> list[_Row]:
    from app import paths
    from app.chat.format import age
    from app.plain_text import one_line
    from app.store.parked import parked_files
    from app.store.store import Store
    from quantize.errors import StretchError
    from quantize.park.file import ParkReader

    store = Store(paths.database_path())
    rows = []
    now = time.time()
    try:
        for file in parked_files():
            try:
                title = one_line(store.conversation(file.conversation).title, 40) or "Untitled"
                with ParkReader(file.path) as reader:
                    about = reader.about
            except (StretchError, OSError):
                continue
            ratio = about.f16_bytes / max(file.n_bytes, 1)
            rows.append(
                _Row(
                    file.conversation,
                    title,
                    file.n_bytes,
                    about.n_tokens,
                    ratio,
                    about.setting,
                    age(file.used, now),
                )
            )
    finally:
        store.close()
    return rows
