"""The threads that the kernel computes with are ggml's: no region of another size, no thread created anew."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.resolve import resolve
from tests.native.programs import build

HERE = Path(__file__).parent

WRITING = """
import ctypes, sys
from quantize.cache_types import cache_type
from quantize.llama import Context, Model, send_log_to
from quantize.native import attention, register_types

model_path, name, n_threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
created = ctypes.CDLL(None).threads_created
send_log_to(lambda _level, _text: None)
assert register_types().ok and attention.enable().ok
with Model(model_path) as model:
    id = cache_type(name).variant(128).id
    with Context(model, n_ctx=512, type_k=id, type_v=id, n_threads=n_threads) as context:
        prompt = model.tokenize("A dog looks for the sea.")
        assert context.decode(prompt, 0) == 0
        counts = []
        for i in range(200):
            assert context.decode_one(5 + i, len(prompt) + i) == 0
            counts.append(created())
assert attention.counters().attention > 200
print(counts[0], counts[-1])
"""
"""Prints how many threads the process had created after the first token and after 200."""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to preload that counts the threads which are created."""
    if shutil.which("gcc") is None or not sys.platform.startswith("linux"):
        pytest.skip("there is no gcc, or no LD_PRELOAD")
    library = tmp_path_factory.mktemp("counter") / "libcount_threads.so"
    command = ["gcc", "-shared", "-fPIC", HERE / "count_threads.c", "-o", library, "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


@pytest.mark.parametrize(("kernel", "name"), (("own", "tq3"), ("device", "f16"), ("device", "tq3")))
@pytest.mark.parametrize("n_threads", (2, 4, 8))
def test_no_thread_is_created_while_tokens_are_written(
    counter: Path, kernel: str, name: str, n_threads: int
) -> None:
    """Inside the CPU backend, and as a device of its own, which opens regions."""
    # threads that sleep while they wait: there may be more of them than cores
    environment = os.environ | {"LD_PRELOAD": str(counter), "OMP_WAIT_POLICY": "passive"}
    environment["STRETCH_KERNEL"] = kernel
    command = [sys.executable, "-c", WRITING, str(resolve("builtin")), name, str(n_threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    first, last = map(int, done.stdout.split())
    assert first == last >= n_threads - 1


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the sources of this test are those of x86-64")
def test_every_region_has_the_size_of_those_of_ggml(tmp_path: Path) -> None:
    """libgomp ends the surplus threads of a smaller region and creates them again for a larger one."""
    program = build(HERE / "team_sizes.c", "gcc", tmp_path, "x86_64", "-O1")
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
