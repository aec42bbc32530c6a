"""The C code of the attention kernel under the sanitizers, and on another processor.

``attention_fuzz.c`` computes random attentions, with and without exact rows, in every instruction set.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "quantize/native"
FUZZ = Path(__file__).with_name("attention_fuzz.c")
AVX512 = ("f", "bw", "vl", "dq", "vnni", "vbmi", "vbmi2")


def flags(source: Path) -> list[str]:
    """What ``CMakeLists.txt`` compiles a file with."""
    if source.stem.endswith("_avx512"):
        return [*(f"-mavx512{part}" for part in AVX512), "-mavx2", "-mfma", "-mf16c"]
    return ["-mavx2", "-mfma", "-mf16c"] if source.stem.endswith("_avx2") else []


def build(compiler: str, directory: Path, machine: str, optimise: str, *options: str) -> Path:
    """The program, compiled for ``machine`` with every source that belongs to it."""
    foreign = ("_neon",) if machine == "x86_64" else ("_avx2", "_avx512")
    objects = []
    for source in (*sorted(NATIVE.glob("*.c")), FUZZ):
        if source.stem.endswith(foreign):
            continue
        target = directory / f"{source.stem}.o"
        command = [compiler, "-std=c11", optimise, "-g", *options, *flags(source), "-I", NATIVE, "-c", source]
        subprocess.run([*command, "-o", target], check=True, capture_output=True)
        objects.append(target)
    program = directory / "attention_fuzz"
    libraries = ["-lm", "-lpthread", "-ldl"]
    subprocess.run([compiler, *options, *objects, "-o", program, *libraries], check=True, capture_output=True)
    return program


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the sources of this test are those of x86-64")
@pytest.mark.parametrize(("sanitizer", "optimise"), (("address,undefined", "-O0"), ("thread", "-O1")))
def test_random_attentions_are_clean(tmp_path: Path, sanitizer: str, optimise: str) -> None:
    """No access out of bounds, no undefined behaviour, no leak, no race."""
    program = build(
        "gcc", tmp_path, "x86_64", optimise, f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"
    )
    done = subprocess.run([program, "7", "45", "3"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr[-2000:]


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="there is no cross compiler")
@pytest.mark.skipif(shutil.which("qemu-aarch64") is None, reason="there is no qemu-aarch64")
def test_random_attentions_with_neon(tmp_path: Path) -> None:
    """The results of an ARM processor, emulated."""
    program = build("aarch64-linux-gnu-gcc", tmp_path, "aarch64", "-O1", "-static")
    done = subprocess.run(
        ["qemu-aarch64", program, "7", "40", "2"], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr[-2000:]
