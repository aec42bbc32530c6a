"""How settings are shown and stepped through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.chat.format import fit
from app.chat.panel.bars import Line, Piece
from app.plain_text import one_line
from app.store.settings import Setting

EVERYWHERE_ONLY = ("screen", "models", "keys")
"""Sections whose settings cannot differ between models or conversations."""

AT_ONCE = ("n_threads", "adapt_threads")
"""Settings of the engine that hold for a model that is loaded already."""

ORIGINS = {
    "default": "",
    "file": "everywhere",
    "model": "this model",
    "conversation": "this conversation",
    "command line": "command line",
}
"""Where a value comes from, as the list says it."""


def shown(value: object) -> str:
    """A value for the eye."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return f"{len(value)} changed" if value else "none changed"
    if isinstance(value, tuple | list):
        return ", ".join(one_line(str(v)) for v in value) or "none"
    return one_line(str(value)) or "none"


def typed(value: object) -> str:
    """A value as one would type it."""
    if isinstance(value, tuple | list):
        return ", ".join(str(v) for v in value)
    return shown(value) if isinstance(value, bool | float) else str(value)


def stepped(setting: Setting, value: object, step: int, names: Sequence[str] = ()) -> Any:
    """The next value of a switch or a choice; None if this setting is typed.

    Args:
        names: choices that are not in the table of settings (cache types, themes).
    """
    if isinstance(setting.default, bool):
        return not value
    choices = list(names or setting.choices)
    if not choices:
        return None
    at = choices.index(str(value)) if value in choices else -1
    return choices[(at + step) % len(choices)]


def draw_setting(setting: Setting, value: object, origin: str, width: int) -> Sequence[Line]:
    """One line: name, value, where the value comes from."""
    name_width = 17
    origin_width = 17 if width >= 62 else 0
    room = max(4, width - 3 - name_width - origin_width - 2)
    changed = origin != "default"
    pieces = [
        Piece("   " + fit(setting.name, name_width), "value"),
        Piece(fit(shown(value), room), "current" if changed else "muted"),
    ]
    if origin_width:
        pieces.append(Piece("  " + fit(ORIGINS.get(origin, origin), origin_width), "faint"))
    return [tuple(pieces)]
