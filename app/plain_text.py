"""Make foreign text safe to show: a file name, a message of an error, a model's metadata.

A terminal obeys escape sequences wherever they come from, and a few Unicode characters
reorder what stands around them. Whatever did not come from Stretch itself passes through
here before it is printed.
"""

from __future__ import annotations

BIDI = dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
"""For ``str.translate``: takes out what reorders the text around it."""

_CONTROLS = {
    code: chr(0xFFFD)
    for code in (*range(0x00, 0x20), 0x7F, *range(0x80, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000))
}
_LINES = {**_CONTROLS, **BIDI, 0x0A: "\n", 0x09: "    "}
_ONE_LINE = {**_CONTROLS, **BIDI, 0x0A: " ", 0x0D: " ", 0x09: " "}

_WIDTHLESS = "\u200b"
_IN_PLACE = dict.fromkeys((*_CONTROLS, *BIDI), _WIDTHLESS) | {
    0x09: "\t",
    **dict.fromkeys(range(0xD800, 0xE000), chr(0xFFFD)),
}


def plain(text: str) -> str:
    """``text`` without control characters; line breaks stay, tabs become spaces."""
    return text.replace("\r\n", "\n").translate(_LINES)


def one_line(text: str, limit: int = 0) -> str:
    """``text`` on a single line, runs of spaces joined, cut to ``limit`` characters (0: no limit)."""
    joined = " ".join(text.translate(_ONE_LINE).split())
    if limit and len(joined) > limit:
        return joined[: limit - 1].rstrip() + "…"
    return joined


def in_place(text: str) -> str:
    """``text`` without control characters, every other one at its place and as wide as before; tabs stay.

    For what is edited, where a cursor counts characters and columns.
    """
    return text.translate(_IN_PLACE)


def sentence_case(text: str) -> str:
    """``text`` with a capital at its beginning; the rest stays as it is."""
    return text[:1].upper() + text[1:]
