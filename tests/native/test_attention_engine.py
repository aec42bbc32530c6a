"""The attention kernel inside llama.cpp: which attentions it gets, and what the models then say."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import llama_cpp.llama_cpp as L
import numpy as np
import pytest
from numpy.typing import NDArray

from quantize.cache_types import cache_type
from quantize.llama import Context, Model, send_log_to
from quantize.native import attention, register_types, status
from tests.native.attention_job import library
from tests.synthetic import SyntheticModels

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def _on() -> Iterator[None]:
    send_log_to(lambda _level, _text: None)
    assert register_types().ok
    status = attention.enable()
    assert status.ok, status.reason
    yield
    attention.use("own")


def run(
    model: Model, kernel: attention.Kernel, k: str, v: str, n: int = 150
) -> tuple[NDArray[np.float32], int]:
    """Logits after two batches and three single tokens, and how many attentions the kernel took."""
    attention.use(kernel)
    before = attention.counters().attention
    tokens = np.random.default_rng(3).integers(5, model.n_vocab - 5, n + 3).tolist()
    type_k, type_v = (cache_type(name).variant(64).id for name in (k, v))
    with Context(model, n_ctx=256, n_ubatch=64, type_k=type_k, type_v=type_v) as c:
        logits = []
        for start in (0, n // 2):
            assert c.decode(tokens[start : start + n // 2], start) == 0
            logits.append(c.logits().copy())
        for i in range(n, n + 3):
            assert c.decode(tokens[i : i + 1], i) == 0
            logits.append(c.logits().copy())
    return np.array(logits), attention.counters().attention - before


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Relative."""
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(a**2)))


@pytest.mark.parametrize(
    "name",
    ("llama", "qwen3", "phi3", "gemma2", "gemma3", "gemma4", "gpt-oss", "cohere2", "deepseek2", "qwen35"),
)
def test_models_say_the_same_with_either_kernel(synthetic: SyntheticModels, name: str) -> None:
    """Grouped heads, sliding windows, soft caps, sinks, latent attention, layers without attention.

    The stock kernel rounds queries to 8 bits for a quantized K, which can choose another expert; two
    unrelated sets of logits are 1.4 apart.
    """
    with Model(synthetic(name)) as model:
        for k, v, limit in (("f16", "f16", 0.02), ("q8_0", "q5_1", 0.2)):
            v = k if name == "deepseek2" else v  # V is a part of K there
            stock, none = run(model, "stock", k, v)
            own, taken = run(model, "own", k, v)
            assert (none, taken > 0) == (0, True)
            assert distance(stock, own) < limit, (k, v)


@pytest.mark.parametrize("name", ("tq4", "q8_0"))
def test_instruction_sets_agree(synthetic: SyntheticModels, name: str) -> None:
    """Integers here, f32 there: what a tiny difference in one layer does to the next writes of the cache."""
    lib = library()
    with Model(synthetic("llama")) as model:
        want, _ = run(model, "own", name, name)
        used = lib.st_isa_active()
        lib.st_isa_use(0)
        try:
            got, _ = run(model, "own", name, name)
        finally:
            lib.st_isa_use(used)
    assert distance(want, got) < 0.05


def decode_two(context: Context, tokens: Sequence[Sequence[int]], position: int) -> NDArray[np.float32]:
    """One batch with the tokens of two sequences by turns; the logits of the last of each."""
    n = len(tokens[0])
    batch = L.llama_batch_init(2 * n, 0, 1)
    batch.n_tokens = 2 * n
    for i in range(2 * n):
        batch.token[i] = tokens[i % 2][i // 2]
        batch.pos[i] = position + i // 2
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = i % 2
        batch.logits[i] = i // 2 == n - 1
    assert L.llama_decode(context.handle, batch) == 0
    logits = np.array([context.logits(2 * n - 2).copy(), context.logits(2 * n - 1).copy()])
    L.llama_batch_free(batch)
    return logits


def test_two_sequences_in_one_batch(synthetic: SyntheticModels) -> None:
    """Each in a stream of its own: attention over two streams at once."""
    rng = np.random.default_rng(0)
    with Model(synthetic("llama")) as model:
        tokens = rng.integers(5, model.n_vocab - 5, (2, 70)).tolist()
        results = []
        for kernel in ("stock", "own"):
            attention.use(kernel)  # type: ignore[arg-type]
            with Context(model, n_ctx=512, type_k=8, type_v=8, n_seq_max=2, n_outputs_max=2) as c:
                first = decode_two(c, [t[:60] for t in tokens], 0)
                results.append(np.concatenate([first, decode_two(c, [t[60:] for t in tokens], 60)]))
    assert distance(*results) < 0.05


def test_the_switch(synthetic: SyntheticModels) -> None:
    """New contexts take the kernel that is chosen; what was computed before stays."""
    with Model(synthetic("llama")) as model:
        assert run(model, "stock", "q8_0", "q8_0")[1] == 0
        assert run(model, "own", "q8_0", "q8_0")[1] > 0


def script(*lines: str, **environment: str) -> str:
    """Run Python in a process of its own."""
    code = "\n".join(("from quantize.native import attention", *lines))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


def test_the_environment_can_leave_llama_cpp_as_it_is() -> None:
    """Nothing is registered then."""
    said = script(
        "from quantize.llama import LIB",
        "s = attention.enable(); print(s.ok, s.kernel, s.reason, attention.counters().attention)",
        "print(LIB.ggml_backend_dev_count())",
        STRETCH_KERNEL="stock",
    )
    first, count = said.splitlines()
    assert (
        first == "False stock The attention kernel is off: STRETCH_KERNEL=stock is set in the environment. 0"
    )
    assert script(
        "from quantize.llama import LIB", "attention.enable(); print(LIB.ggml_backend_dev_count())"
    ) == str(int(count) + 1)


def test_without_the_library_there_is_a_sentence(tmp_path: Path) -> None:
    """The stock kernel works on."""
    said = script(
        "s = attention.enable(); print(s.kernel, '|', s.reason)", STRETCH_NATIVE=str(tmp_path / "none.so")
    )
    assert said.startswith("stock | ") and said.endswith(".")


def test_a_kernel_that_computes_something_else_stays_off(tmp_path: Path, synthetic: SyntheticModels) -> None:
    """The self-test notices, and models run with the stock kernel."""
    path = status().path
    assert path is not None
    log2_e, one = struct.pack("<f", 1.4426950408889634), struct.pack("<f", 1.0)
    broken = tmp_path / path.name
    broken.write_bytes(path.read_bytes().replace(log2_e, one))  # a softmax of another base
    said = script(
        "from quantize.llama import *",
        "send_log_to(lambda level, text: None)",
        "s = attention.enable(); print(s.kernel, '|', s.reason)",
        f"m = Model({str(synthetic('llama'))!r})",
        "print(Context(m, n_ctx=256, type_k=8, type_v=8).decode([5, 6, 7], 0))",
        STRETCH_NATIVE=str(broken),
    )
    assert said.splitlines() == [
        "stock | The attention kernel is off: its results differ from llama.cpp's on this machine.",
        "0",
    ]
