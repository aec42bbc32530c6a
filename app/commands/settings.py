"""``stretch settings``: show, change or edit the settings without opening the chat."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from app import paths
from app.plain_text import one_line
from quantize.errors import StoreError, UsageError

if TYPE_CHECKING:
    from app.store.preferences import Preferences

HELP = "Show or change settings: stretch settings [NAME [VALUE]]."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="a setting; without one all are shown")
    parser.add_argument("value", metavar="VALUE", nargs="?", help="its new value")
    parser.add_argument("-m", "--model", metavar="MODEL", default="", help="for this model alone")
    parser.add_argument("--unset", action="store_true", help="return to the default")
    parser.add_argument("--edit", action="store_true", help="open the file in $VISUAL or $EDITOR")
    parser.add_argument("--path", action="store_true", help="print the path of the file")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; the exit code is 1 if the file holds mistakes."""
    from app.store.preferences import Preferences, Scope

    preferences = Preferences(paths.settings_path())
    if args.path:
        print(preferences.path)
        return 0
    if args.edit:
        preferences.create()
        _open_editor(preferences.path)
    elif args.unset or args.value is not None:
        if args.name is None or (args.unset and args.value is not None):
            raise UsageError(
                "It is not clear what to change.", "Write stretch settings --unset NAME, or NAME VALUE."
            )
        scope = Scope(model=args.model)
        if args.unset:
            preferences.unset_for(scope, args.name)
        else:
            preferences.set_for(scope, args.name, args.value)
    else:
        _show(preferences, args.name, args.model)
    preferences.resolve()
    for problem in preferences.problems:
        print(one_line(problem), file=sys.stderr)
    return 1 if preferences.problems else 0


def _show(preferences: Preferences, name: str | None, model: str) -> None:
    from app.store.settings import SECTIONS, SETTINGS, setting, to_toml

    values, origins = preferences.resolve(model=model), preferences.origins(model=model)
    if name is not None:
        value = getattr(values, setting(name).name)
        print(value if isinstance(value, str) else to_toml(value))
        return
    for section in SECTIONS:
        for known in (s for s in SETTINGS.values() if s.section == section and s.name != "keys"):
            shown = one_line(to_toml(getattr(values, known.name)), 32)
            where = "" if origins[known.name] == "default" else f"[{origins[known.name]}] "
            print(f"{known.name:<16} {shown:<16} {where}{known.about}")
    for action, key in values.keys.items():
        print(f"{one_line(f'keys.{action}'):<16} {one_line(key)}")


def _open_editor(path: Path) -> None:
    wanted = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    command = shlex.split(wanted) or next(([e] for e in ("nano", "vi") if shutil.which(e)), [])
    if not command:
        raise StoreError("There is no editor.", f"Set EDITOR, or open {path} yourself.")
    try:
        code = subprocess.run([*command, str(path)], check=False).returncode
    except OSError as error:
        raise StoreError(
            f"The editor {command[0]} could not be started: {error.strerror}.", "Set EDITOR."
        ) from error
    if code:
        raise StoreError(f"The editor {command[0]} ended with code {code}.", f"The file is {path}.")
