"""How keys are written on the screen, and which key does what."""

from __future__ import annotations

from collections.abc import Mapping

from app.chat.commands import BY_NAME

_NAMES = {
    "escape": "esc",
    "enter": "enter",
    "pageup": "page up",
    "pagedown": "page down",
    "alt+right": "alt →",
    "alt+left": "alt ←",
    "up": "↑",
    "down": "↓",
    "shift+enter": "shift+enter",
}


def key_name(key: str) -> str:
    """``ctrl+k`` as ``^K``, ``f1`` as ``F1``, ``escape`` as ``esc``."""
    if not key:
        return ""
    if key in _NAMES:
        return _NAMES[key]
    if key.startswith("ctrl+") and len(key) == 6:
        return "^" + key[-1].upper()
    if key[0] == "f" and key[1:].isdigit():
        return key.upper()
    return key


def key_of(command: str, keys: Mapping[str, str]) -> str:
    """The key that does what a slash command does, as Textual names it; empty if there is none.

    Args:
        keys: The settings' own keys by the name of the command.
    """
    name = command.removeprefix("/").split(" ")[0]
    known = BY_NAME.get(name)
    return keys.get(known.name, known.key).split(",")[0] if known is not None else ""
