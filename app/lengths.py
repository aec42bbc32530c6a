"""Lengths of a context as people write them, the same in every option, command and field."""

from __future__ import annotations

import re

from quantize.errors import UsageError

LONGEST = 1 << 24

_PATTERN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*([kKmM]?)")
_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20}


def read_length(text: str) -> int | None:
    """``16384``, ``16,384``, ``16k``, ``1.5k``, ``1M`` as a number of tokens; None if it is no length."""
    found = _PATTERN.fullmatch(text.strip().replace(",", "").replace("_", ""))
    if found is None:
        return None
    tokens = round(float(found[1]) * _FACTORS[found[2].lower()])
    return tokens if 0 < tokens <= LONGEST else None


def parse_length(text: str) -> int:
    """The same.

    Raises:
        UsageError: if it is no length.
    """
    tokens = read_length(text)
    if tokens is None:
        raise UsageError(
            f"{text.strip()!r:.80} is no length of a context.", "Write for example 16384 or 16k."
        )
    return tokens
