"""Compiles C programs of the tests with the sources of the native library."""

from __future__ import annotations

import subprocess
from pathlib import Path

NATIVE = Path(__file__).parents[2] / "quantize/native"
AVX512 = ("f", "bw", "vl", "dq", "vnni", "vbmi", "vbmi2")


def flags(source: Path) -> list[str]:
    """What ``CMakeLists.txt`` compiles a file with."""
    if source.stem.endswith("_avx512"):
        return [*(f"-mavx512{part}" for part in AVX512), "-mavx2", "-mfma", "-mf16c"]
    return ["-mavx2", "-mfma", "-mf16c"] if source.stem.endswith("_avx2") else []


def build(
    program: Path,
    compiler: str,
    directory: Path,
    machine: str,
    *options: str,
    sources: tuple[str, ...] = ("*.c",),
) -> Path:
    """The program, compiled for ``machine`` with every source that belongs to it.

    Args:
        sources: patterns of the files of the library that it needs.
    """
    foreign = ("_neon",) if machine == "x86_64" else ("_avx2", "_avx512")
    objects = []
    for source in (*(path for pattern in sources for path in sorted(NATIVE.glob(pattern))), program):
        if source.stem.endswith(foreign):
            continue
        target = directory / f"{source.stem}.o"
        command = [compiler, "-std=c11", "-g", *options, *flags(source), "-I", NATIVE, "-c", source]
        subprocess.run([*command, "-o", target], check=True, capture_output=True)
        objects.append(target)
    made = directory / program.stem
    libraries = ["-lm", "-lpthread", "-ldl"]
    subprocess.run([compiler, *options, *objects, "-o", made, *libraries], check=True, capture_output=True)
    return made
