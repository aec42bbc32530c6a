"""The rotation: its values, and the rule by which llama.cpp applies it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.llama import send_log_to
from quantize.rotation import hadamard, hadamard_numpy, rotation_disabled, rotation_k, rotation_v
from tests.quantize.conftest import Engine, equal
from tests.quantize.ggml_graph import rewrite

F32, Q8_0 = 0, 8


def matrix(size: int) -> np.ndarray:
    """The Walsh-Hadamard matrix by its recursion, orthonormal."""
    h = np.ones((1, 1))
    while len(h) < size:
        h = np.block([[h, h], [h, -h]])
    return h / np.sqrt(size)


@given(st.sampled_from([2, 4, 64, 128, 256, 512]), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_it_is_the_hadamard_matrix_and_its_own_inverse(size: int, n: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((n, size), dtype=np.float32)
    turned = values.copy()
    hadamard(turned, size)
    assert np.allclose(turned, values @ matrix(size), atol=1e-5)
    hadamard(turned, size)
    assert np.allclose(turned, values, atol=1e-5)


@given(st.sampled_from([2, 8, 16, 32, 64, 128, 256, 512]), st.integers(1, 21), st.integers(0, 2**32 - 1))
def test_numpy_and_the_native_library_agree_bit_for_bit(size: int, n: int, seed: int) -> None:
    """With numbers of every size, so that each rounding shows."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, size), dtype=np.float32)
    values *= np.float32(10.0) ** rng.integers(-20, 20, (n, size)).astype(np.float32)
    a, b = values.copy(), values.copy()
    hadamard(a, size)
    hadamard_numpy(b, size)
    assert equal(a.view(np.uint8), b.view(np.uint8))


def test_only_whole_vectors() -> None:
    """The C function checks nothing."""
    doubles: Any = np.zeros(64)
    for wrong in (np.zeros(65, np.float32), np.zeros((64, 2), np.float32)[:, 0], doubles):
        with pytest.raises(ValueError):
            hadamard(wrong, 64)


@pytest.mark.parametrize("hadamard", [hadamard, hadamard_numpy])
@pytest.mark.parametrize("size", [64, 128, 256])
def test_it_is_ggmls_bit_for_bit(size: int, hadamard: Callable[..., None]) -> None:
    values = np.random.default_rng(3).standard_normal((33, 512), dtype=np.float32)
    values *= np.float32(10.0) ** np.arange(-16, 17, dtype=np.float32)[:, None]
    expected = rewrite(values.view(np.uint8), F32, F32, 512, size)
    scratch = [np.empty(values.size + 5, np.float32) for _ in range(2)]
    hadamard(values, size, *scratch)
    assert equal(values.view(np.uint8), expected)


def test_the_rule() -> None:
    assert rotation_k(True, [128, 128], 128) == 128
    assert [rotation_k(True, [d], d) for d in (64, 192, 256, 512, 576)] == [64, 64, 256, 512, 64]
    assert [rotation_v(True, [d], d) for d in (64, 128, 256, 512)] == [64] * 4
    assert rotation_k(False, [128], 128) == rotation_v(False, [128], 128) == 0
    assert rotation_k(True, [96], 96) == rotation_v(True, [96], 96) == 0
    assert rotation_k(True, [128, 256], 128) == 0  # unequal heads in one cache
    assert rotation_k(True, [], 128) == 0  # a cache without layers


@pytest.mark.parametrize(
    "text,disabled", [("1", True), (" 2x", True), ("0", False), ("yes", False), ("", False)]
)
def test_the_environment_variable(monkeypatch: pytest.MonkeyPatch, text: str, disabled: bool) -> None:
    monkeypatch.setenv("LLAMA_ATTN_ROT_DISABLE", text)
    assert rotation_disabled() is disabled
    assert rotation_k(True, [128], 128) == (0 if disabled else 128)


@pytest.mark.parametrize("disabled", ["0", "1"])
@pytest.mark.parametrize("head_dim", [64, 96, 128, 192, 256])
def test_llama_cpp_follows_the_rule(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, head_dim: int, disabled: str
) -> None:
    """llama.cpp logs whether it rotates; and rows from f32 must turn out as it writes them."""
    monkeypatch.setenv("LLAMA_ATTN_ROT_DISABLE", disabled)
    e = engine(head_dim=head_dim, n_head=2, n_head_kv=1, n_layer=1)
    e.states.clear()
    lines: list[str] = []
    send_log_to(lambda _level, text: lines.append(text))
    try:
        exact, native = e.state(F32, F32, 20), e.state(Q8_0, Q8_0, 20)
    finally:
        send_log_to(lambda _level, _text: None)
        e.states.clear()
    logged = [int(line.split("attn_rot_k = ")[1].split(",")[0]) for line in lines if "attn_rot_k = " in line]
    assert logged == [0, int(rotation_k(True, [head_dim], head_dim) != 0)]
    assert equal(e.transcoded(exact, Q8_0, Q8_0).data, native.data)


@pytest.mark.parametrize(
    "name,head_dim", [("gemma3", 64), ("gemma3", 96), *(("gemma4", d) for d in (64, 128, 256))]
)
def test_each_cache_of_a_sliding_model_follows_the_rule(
    engine: Callable[..., Engine], name: str, head_dim: int
) -> None:
    """Its two caches can have heads of different sizes, but the test is made on layer 0 for both."""
    e = engine(name, head_dim=head_dim)
    lines: list[str] = []
    send_log_to(lambda _level, text: lines.append(text))
    try:
        e.context(Q8_0, Q8_0).close()
    finally:
        send_log_to(lambda _level, _text: None)
    for side, rule in (("k", rotation_k), ("v", rotation_v)):
        tag = f"attn_rot_{side} = "
        logged = [int(line.split(tag)[1].split(",")[0]) for line in lines if tag in line]
        first = getattr(e.geometry.first, f"head_dim_{side}")
        dims = [[getattr(h, f"head_dim_{side}") for h in part] for part in e.geometry.parts]
        assert logged == [int(rule(True, d, first) != 0) for d in dims]
