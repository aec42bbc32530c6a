"""``stretch models``: what is on this computer, what was begun, and what is worth trying."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app import paths

HELP = "List the models on this computer and the catalog, and say what runs here."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--here", action="store_true", help="only what is on this computer")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the list."""

    group: str
    """``here``, ``unfinished`` or ``catalog``."""
    name: str
    """What the other commands take."""
    title: str
    place: str
    n_bytes: int
    runs: bool
    verdict: str
    license: str = ""
    path: str = ""
    done: int = 0
    """Bytes that are here, for an unfinished download."""


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    entries = list(_entries(catalog=not args.here))
    if args.json:
        for entry in entries:
            print(json.dumps(_data(entry), ensure_ascii=False))
        return 0
    print("\n".join(_lines(entries)))
    return 0


def _entries(*, catalog: bool) -> Iterator[Entry]:
    from app.store.preferences import Preferences
    from models.hub.places import target_of, unfinished
    from models.local import find_local, judge, judge_file
    from models.memory import memory

    own = paths.models_dir()
    folders = Preferences(paths.settings_path()).resolve().model_folders
    budget = memory().available
    for model in find_local(own, folders):
        verdict = judge_file(model.path, budget)
        yield Entry(
            "here",
            _own_name(model.path, own) or model.name,
            model.title,
            model.place,
            model.n_bytes,
            verdict.runnable,
            verdict.sentence,
            verdict.license,
            str(model.path),
        )
    for begun in unfinished(own):
        identity = begun.identity
        yield Entry(
            "unfinished",
            f"{identity.repo}/{identity.path}",
            identity.path,
            identity.repo,
            identity.size,
            False,
            "not complete",
            done=begun.done,
        )
    if not catalog:
        return
    from models.catalog import catalog as listed

    for item in listed():
        if target_of(own, item.repo, item.file).exists():
            continue
        verdict = judge(item.header(), budget)
        yield Entry(
            "catalog",
            item.address,
            item.name,
            item.repo,
            item.n_bytes,
            verdict.runnable,
            verdict.sentence,
            item.license,
        )


def _own_name(path: Path, own: Path) -> str:
    """``owner/repo/file.gguf`` for what was downloaded, else empty."""
    parts = path.relative_to(own).parts if path.is_relative_to(own) else ()
    return "/".join(parts) if len(parts) > 2 else ""


def _data(entry: Entry) -> dict[str, object]:
    data: dict[str, object] = {
        "group": entry.group,
        "name": entry.name,
        "title": entry.title,
        "bytes": entry.n_bytes,
        "license": entry.license,
        "runs": entry.runs,
        "verdict": entry.verdict,
    }
    if entry.path:
        data["path"] = entry.path
    if entry.group == "unfinished":
        data["done"] = entry.done
    return data


_HEADINGS = {
    "here": "On this computer",
    "unfinished": "Unfinished downloads (stretch pull NAME goes on)",
    "catalog": "Worth trying (stretch pull 'NAME'; estimated from the catalog)",
}


def _lines(entries: list[Entry]) -> Iterator[str]:
    from app.engine.words import size
    from app.lab.table import has_colour, styled
    from app.plain_text import one_line

    colour = has_colour()
    for group, heading in _HEADINGS.items():
        members = [entry for entry in entries if entry.group == group]
        if not members:
            continue
        if group != "here":
            yield ""
        yield styled(heading, "bold", colour=colour)
        named = [e.title if group == "catalog" or e.name == e.path else e.name for e in members]
        names = [one_line(name, 70) for name in named]
        width = min(max(map(len, names)), 64)
        for entry, name in zip(members, names, strict=True):
            said = f"{100 * entry.done // max(entry.n_bytes, 1)}% is here" if entry.done else entry.verdict
            tone = "" if entry.runs or entry.done else "dim"
            line = f"  {name:<{width}}  {size(entry.n_bytes):>9}  "
            yield line + styled(one_line(said, 100), tone, colour=colour)
