"""The names of the codecs, for those who must not load llama.cpp to read one."""

from __future__ import annotations

import re

from quantize.errors import UsageError

NAMES = ("auto", "ggml", "turboquant", "lowrank", "crosslayer", "learned")
"""In the order of what they need to know: a calibration from ``lowrank`` on."""

_SETTING = re.compile(r"([a-z]+)(:[\w./]{1,20})?")


def check_name(text: str) -> str:
    """``text`` in lower case, if it is a codec with or without its setting: ``learned``, ``ggml:q4_0``.

    Raises:
        UsageError: if it is none.
    """
    match = _SETTING.fullmatch(text.strip().lower())
    if match is None or match[1] not in NAMES:
        raise UsageError(f"There is no codec {text.strip()!r}.", f"There are {', '.join(NAMES)}.")
    return match[0]
