"""How keys are written on the screen."""

from __future__ import annotations

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
