"""Whether this processor has Intel's matrix unit, which llama.cpp is then not allowed to use.

llama.cpp's code for it (``ggml-cpu/amx``) ends the process when GCC 12 compiled it, the compiler of Debian
12: the compiler believes that ``_tile_loadconfig`` reads 8 bytes of the configuration, drops the writes of
the rest, and the processor refuses what it finds there. The code is reached through the second copies of
weights (``use_extra_bufts``) alone, so these are not made on such a machine.
"""

from __future__ import annotations

import functools
from pathlib import Path


@functools.cache
def has_matrix_unit() -> bool:
    """Whether the first processor of /proc/cpuinfo has AMX for 8-bit integers; False where there is no such
    file."""
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as info:
            for line in info:
                name, _, value = line.partition(":")
                if name.strip() == "flags":
                    return {"amx_int8", "amx_tile"} <= set(value.split())
    except OSError:
        pass
    return False
