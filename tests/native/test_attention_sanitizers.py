"""The C code of the attention kernel under the sanitizers, and on another processor.

``attention_fuzz.c`` computes random attentions, with and without exact rows, in every instruction set.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.native.programs import build

FUZZ = Path(__file__).with_name("attention_fuzz.c")


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the sources of this test are those of x86-64")
@pytest.mark.parametrize(("sanitizer", "optimise"), (("address,undefined", "-O0"), ("thread", "-O1")))
def test_random_attentions_are_clean(tmp_path: Path, sanitizer: str, optimise: str) -> None:
    """No access out of bounds, no undefined behaviour, no leak, no race."""
    options = (optimise, f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    program = build(FUZZ, "gcc", tmp_path, "x86_64", *options)
    done = subprocess.run([program, "7", "45", "3"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr[-2000:]


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="there is no cross compiler")
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="there is no qemu-aarch64")
def test_random_attentions_with_neon(tmp_path: Path) -> None:
    """The results of an ARM processor, emulated."""
    program = build(FUZZ, "aarch64-linux-gnu-gcc", tmp_path, "aarch64", "-O1", "-static")
    done = subprocess.run(
        ["qemu-aarch64", program, "7", "40", "2"], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr[-2000:]
