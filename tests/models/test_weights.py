"""What the weights take: the mapped part of the file and the copy that llama.cpp makes of some."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from models.cpu import CpuFeatures, cpu_features
from models.header import read_header
from models.weights import weigh
from tests.synthetic import SyntheticModels

MIB = 1 << 20

_LOAD = """
import json, sys
from quantize import llama
lines, logs = [], []
llama.send_log_to(lambda _level, text: lines.append(text))
for path, repack in json.load(sys.stdin):
    lines.clear()
    llama.Model(path, repack=repack).close()
    logs.append("".join(lines))
json.dump(logs, sys.stdout)
"""


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "q4_0": ("llama", {"weight_type": "q4_0"}),
    "q8_0": ("llama", {"weight_type": "q8_0"}),
    "mxfp4 experts": ("gpt-oss", {"weight_type": "mxfp4"}),
    "tied q4_0: a copy of the embedding too": ("gemma2", {"weight_type": "q4_0"}),
    "latent attention": ("deepseek2", {"weight_type": "q4_0"}),
    "embeddings per layer": ("gemma4", {"weight_type": "q4_0"}),
    "short convolutions": ("lfm2", {"weight_type": "q4_0"}),
    "state-space layers": ("granitehybrid", {"weight_type": "q4_0"}),
    "delta nets": ("qwen35", {"weight_type": "q4_0"}),
    "q, k and v in one": ("phi3", {"weight_type": "q4_0"}),
    "ternary": ("bitnet", {}),
    "many streams": ("gemma3n", {}),
}


Buffers = dict[str, float]


@pytest.fixture(scope="module")
def buffers(synthetic: SyntheticModels) -> dict[str, Buffers]:
    """Names and MiB of the models' buffers by case, as llama.cpp logs them."""
    paths = {case: synthetic(name, **parameters) for case, (name, parameters) in CASES.items()}
    job = [(str(path), True) for path in paths.values()] + [(str(paths["q4_0"]), False)]
    done = subprocess.run(
        [sys.executable, "-c", _LOAD], input=json.dumps(job), capture_output=True, text=True, check=True
    )
    found = [
        {name: float(size) for name, size in re.findall(r"(\w+) model buffer size = +([\d.]+) MiB", log)}
        for log in json.loads(done.stdout)
    ]
    return dict(zip([*paths, "q4_0 without"], found, strict=True))


@pytest.mark.skipif(cpu_features().amx, reason="the matrix unit has a layout of its own")
@pytest.mark.parametrize("case", CASES)
def test_copied_and_mapped_bytes_are_those_that_llama_cpp_logs(
    synthetic: SyntheticModels, buffers: dict[str, Buffers], case: str
) -> None:
    name, parameters = CASES[case]
    weights = weigh(read_header(synthetic(name, **parameters)), cpu_features())
    assert weights.repacked / MIB == pytest.approx(buffers[case].get("CPU_REPACK", 0.0), abs=0.006)
    assert weights.mapped / MIB == pytest.approx(buffers[case]["CPU_Mapped"], abs=0.006)


def test_no_copy_if_it_is_switched_off(synthetic: SyntheticModels, buffers: dict[str, Buffers]) -> None:
    weights = weigh(read_header(synthetic("llama", weight_type="q4_0")), cpu_features(), repack=False)
    assert weights.repacked == 0 and "CPU_REPACK" not in buffers["q4_0 without"]
    assert weights.mapped / MIB == pytest.approx(buffers["q4_0 without"]["CPU_Mapped"], abs=0.006)


def test_other_processors_copy_other_types(synthetic: SyntheticModels) -> None:
    q4_0 = read_header(synthetic("llama", weight_type="q4_0"))
    q8_0 = read_header(synthetic("llama", weight_type="q8_0"))
    old_pc, pc = CpuFeatures(), CpuFeatures(avx2=True)
    arm = CpuFeatures(neon=True, dotprod=True, int8mm=True)
    copied = [[weigh(h, cpu).repacked > 0 for h in (q4_0, q8_0)] for cpu in (old_pc, pc, arm)]
    assert copied == [[False, False], [True, False], [True, True]]


def test_a_matrix_unit_gets_no_second_copies(synthetic: SyntheticModels) -> None:
    """They would be in a layout that ends the process on some of these processors (``quantize.amx``)."""
    header = read_header(synthetic("llama", weight_type="q4_0"))
    with_unit, without = (weigh(header, CpuFeatures(avx2=True, amx=amx)) for amx in (True, False))
    assert with_unit.repacked == 0 < without.repacked
    assert with_unit.unknown == without.unknown == ()


def test_features_agree_with_the_library() -> None:
    """ggml asks what it was compiled for, which is what this machine has."""
    code = (
        "import json, sys, quantize.llama as q;"
        "print(json.dumps({n: bool(getattr(q.LIB, 'ggml_cpu_has_' + n)()) for n in sys.argv[1:]}))"
    )
    names = {
        "avx2": "avx2",
        "avx512": "avx512",
        "neon": "neon",
        "dotprod": "dotprod",
        "matmul_int8": "int8mm",
    }
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    ours = cpu_features()
    assert json.loads(done.stdout) == {library: getattr(ours, name) for library, name in names.items()}
