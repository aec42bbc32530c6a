"""``/prune 50% kvzip whole`` read."""

from __future__ import annotations

import re

from quantize.errors import UsageError
from quantize.prune.names import POLICIES

__all__ = ["POLICIES", "parse_prune"]

_SHARE = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%|(0?\.\d+|1\.0*)")


def parse_prune(text: str) -> tuple[float, str, bool]:
    """Share to keep, policy (empty: the best), and whether whole tokens are chosen.

    Raises:
        UsageError: if a word is none of these.
    """
    keep, name, whole = 0.5, "", False
    for word in text.lower().split():
        found = _SHARE.fullmatch(word)
        if found:
            keep = float(found[1]) / 100 if found[1] else float(found[2])
        elif word.replace("-", "_") in POLICIES:
            name = word.replace("-", "_")
        elif word == "whole":
            whole = True
        else:
            raise UsageError(
                f"{word!r} is neither a share to keep nor a way to prune.",
                f"Write for example /prune 50% {POLICIES[0]}. There are: {', '.join(POLICIES)}.",
            )
    if not 0 < keep <= 1:
        raise UsageError("A share between 1% and 100% can be kept.", "Write for example /prune 50%.")
    return keep, name, whole
