"""``stretch chats``: list, search, export and import conversations without opening the chat."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from app import paths
from app.plain_text import one_line, plain
from quantize.errors import UsageError

if TYPE_CHECKING:
    from app.store.records import Conversation
    from app.store.store import Store

HELP = "List, search, export or import conversations."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("words", metavar="WORD", nargs="*", help="show only those that hold all the words")
    parser.add_argument("-n", "--limit", metavar="N", type=int, default=30, help="show at most N (30)")
    parser.add_argument(
        "--export", metavar="ID", type=int, help="write one conversation to the output, as Markdown"
    )
    parser.add_argument("--json", action="store_true", help="export as JSON with all branches")
    parser.add_argument("--import", dest="import_", metavar="FILE", type=Path, help="read a JSON export back")


def run(args: argparse.Namespace) -> int:
    """Do what was asked."""
    from app.store.store import Store

    if args.export is not None and args.import_ is not None:
        raise UsageError("Either export or import.", "Leave one of them out.")
    if args.json and args.export is None:
        raise UsageError("--json belongs to --export ID.", "Name the conversation to export.")
    store = Store(paths.database_path())
    try:
        for notice in store.notices:
            print(one_line(notice), file=sys.stderr)
        if args.export is not None:
            _export(store, args.export, as_json=args.json)
        elif args.import_ is not None:
            from app.store.export import import_file

            print(_line(import_file(store, args.import_)))
        else:
            _list(store, " ".join(args.words), max(args.limit, 0))
    finally:
        store.close()
    return 0


def _list(store: Store, words: str, limit: int) -> None:
    if not words.strip():
        found = store.conversations(limit=limit)
        for conversation in found:
            print(_line(conversation))
        if not found:
            print("There are no conversations yet.", file=sys.stderr)
        return
    hits = store.search(words, limit=limit)
    if not hits:
        print("No conversation holds these words.", file=sys.stderr)
    for hit in hits:
        print(_line(hit.conversation))
        if hit.message is not None:
            print(f"{'':7}{hit.snippet}")


def _line(conversation: Conversation) -> str:
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(conversation.updated))
    pin = "*" if conversation.pinned else " "
    title = one_line(conversation.title, 60) or "(no title)"
    return f"{conversation.id:>5}{pin} {day}  {conversation.n_messages:>4} messages  {title}"


def _export(store: Store, id: int, *, as_json: bool) -> None:
    from app.store.export import to_json, to_markdown

    conversation = store.conversation(id)
    if as_json:
        sys.stdout.write(to_json(conversation, store.tree(id)))
        return
    text = to_markdown(conversation, store.branch(id))
    sys.stdout.write(plain(text) if sys.stdout.isatty() else text)
