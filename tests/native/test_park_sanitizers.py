"""The C code of parked caches under the sanitizers, and on another processor."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.native.programs import build

FUZZ = Path(__file__).with_name("park_fuzz.c")
SOURCES = ("isa.c", "park*.c", "product*.c")


def fuzz(program: list[str | Path]) -> None:
    done = subprocess.run([*program, "3", "400"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr[-2000:]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the sources of this test are those of x86-64")
@pytest.mark.parametrize("optimise", ["-O0", "-O3"])
def test_random_rows_are_clean(tmp_path: Path, optimise: str) -> None:
    """Every instruction set agrees with plain loops; no access out of bounds, nothing undefined."""
    options = (optimise, "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    fuzz([build(FUZZ, "gcc", tmp_path, "x86_64", *options, sources=SOURCES)])


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="there is no cross compiler")
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="there is no qemu-aarch64")
def test_random_rows_with_neon(tmp_path: Path) -> None:
    options = ("-O2", "-ffp-contract=off", "-static")
    made = build(FUZZ, "aarch64-linux-gnu-gcc", tmp_path, "aarch64", *options, sources=SOURCES)
    fuzz(["qemu-aarch64", made])
