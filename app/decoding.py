"""Bytes from outside as text: a file that is attached, what is piped in."""

from __future__ import annotations

import codecs

from quantize.errors import UsageError


def decode(data: bytes, name: str, only_text: str, as_utf8: str) -> str:
    """The text that ``data`` is: UTF-8, or UTF-16 with the mark that some editors call Unicode.

    Args:
        name: begins the sentence of an error.
        only_text: what to do instead if it is no text at all.
        as_utf8: what to do instead if its encoding is another one.

    Raises:
        UsageError: if it is neither.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            text = data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise UsageError(f"{name} is not sound UTF-16 text.", as_utf8) from error
    elif b"\0" in data:  # before its encoding is blamed
        raise UsageError(f"{name} is not text.", only_text)
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"{name} is not UTF-8 text.", as_utf8) from error
    if "\0" in text:
        raise UsageError(f"{name} is not text.", only_text)
    return text
