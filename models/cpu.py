"""What the processor can do, as far as it decides which weights llama.cpp keeps a second copy of."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CpuFeatures:
    """The instruction sets that ggml's repacking asks for.

    ggml asks what it was compiled for. llama-cpp-python is compiled on the machine that runs it,
    so that is what the machine has.
    """

    avx2: bool = False
    avx512: bool = False
    amx: bool = False
    """Intel's matrix unit: no second copies are then made (``quantize.amx``)."""
    neon: bool = False
    dotprod: bool = False
    int8mm: bool = False


@cache
def cpu_features() -> CpuFeatures:
    """This machine's."""
    machine = platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        flags = _mac_flags() if platform.system() == "Darwin" else _linux_flags("Features")
        return CpuFeatures(neon=True, dotprod="asimddp" in flags, int8mm="i8mm" in flags)
    flags = _linux_flags("flags") if platform.system() == "Linux" else _mac_flags()
    return CpuFeatures(
        avx2="avx2" in flags,
        avx512="avx512f" in flags,
        amx="amx_int8" in flags and "amx_tile" in flags,
    )


def _linux_flags(line: str) -> frozenset[str]:
    """The flags of the first processor in /proc/cpuinfo."""
    try:
        with Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as info:
            for text in info:
                name, _, value = text.partition(":")
                if name.strip() == line:
                    return frozenset(value.split())
    except OSError:
        pass
    return frozenset()


def _mac_flags() -> frozenset[str]:
    """sysctl's names of the features, turned into Linux' ones."""
    names = {
        "hw.optional.avx2_0": "avx2",
        "hw.optional.avx512f": "avx512f",
        "hw.optional.arm.FEAT_DotProd": "asimddp",
        "hw.optional.arm.FEAT_I8MM": "i8mm",
    }
    found = set()
    try:
        said = subprocess.run(
            ["/usr/sbin/sysctl", *names], capture_output=True, text=True, timeout=2, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()
    for line in said.splitlines():
        key, _, value = line.partition(":")
        if value.strip() == "1" and key.strip() in names:
            found.add(names[key.strip()])
    return frozenset(found)
