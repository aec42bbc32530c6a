"""``stretch park``: what conversations that were put away take on the disk."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.store.parked import ParkedFile

HELP = "Show what parked conversations take on the disk, or remove them."


@dataclass(frozen=True, slots=True)
class _Row:
    """One parked conversation."""

    conversation: int
    title: str
    n_bytes: int
    shared_bytes: int
    n_tokens: int
    n_cells: int
    f16: int
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
    from app.store.parked import drop_all, parked_bytes, parked_files

    if args.what == "clear":
        print(f"{drop_all()} parked conversations were removed; they are read again when you open them.")
        return 0
    files = parked_files()
    rows, total = _rows(files), parked_bytes(files)
    if args.json:
        print(json.dumps({"files": [_plain(row) for row in rows], "n_bytes": total}))
        return 0
    if not rows:
        print("Nothing is parked.")
        return 0
    print(
        f"{'id':>5} {'tokens':>7} {'cells':>7} {'size':>9} {'shared':>9} {'smaller':>8}  {'codec':<16} "
        f"{'used':<10} title"
    )
    for row in rows:
        print(
            f"{row.conversation:>5} {row.n_tokens:>7,} {row.n_cells:>7,} {size(row.n_bytes):>9} "
            f"{size(row.shared_bytes) if row.shared_bytes else '':>9} {row.ratio:>7.1f}x  "
            f"{row.codec:<16} {row.age:<10} {row.title}"
        )
    once = total - sum(file.n_bytes for file in files)
    shared = f", {size(once)} of it beginnings that are there once for all" if once else ""
    print(
        f"{len(rows)} conversations, {size(total)}{shared}; as f16 caches {size(sum(r.f16 for r in rows))}."
    )
    return 0


def _plain(row: _Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _Row.__slots__}


def _rows(files: list[ParkedFile]) -> list[_Row]:
    from app import paths
    from app.chat.format import age
    from app.plain_text import one_line
    from app.store.store import Store
    from quantize.errors import StretchError
    from quantize.park.header import read_about

    store = Store(paths.database_path())
    rows = []
    now = time.time()
    try:
        for file in files:
            try:
                title = one_line(store.conversation(file.conversation).title, 40) or "Untitled"
                about = read_about(file.path)
            except (StretchError, OSError):
                continue
            shared = file.shared_bytes
            ratio = about.f16_bytes / max(file.n_bytes + shared, 1)
            rows.append(
                _Row(
                    file.conversation,
                    title,
                    file.n_bytes,
                    shared,
                    about.n_tokens,
                    about.n_tokens - about.n_gone,
                    about.f16_bytes,
                    ratio,
                    about.setting,
                    age(file.used, now),
                )
            )
    finally:
        store.close()
    return rows
