"""Contexts whose K lacks its constant say what others say, whatever the model and the order of calls."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from quantize.centring import Centring
from quantize.centrings import from_bias, from_text
from quantize.llama import LOST_CONSTANT, Context
from quantize.model_ropes import ropes_of
from quantize.native import attention, register_types
from quantize.native.tail import Tail
from quantize.state import read_state
from tests.quantize.centred import made_centring
from tests.quantize.conftest import Engine, save

F32, F16, Q8_0, Q4_0 = 0, 1, 8, 2
MODELS = ["llama", "mistral", "mistral3", "qwen2", "qwen2vl", "qwen3", "phi3", "bitnet", "olmo2"]
MODELS += ["gemma2", "gemma3", "gemma3n", "gemma4", "gpt-oss", "cohere2", "smollm3"]
WINDOW = 96

pytestmark = pytest.mark.skipif(not attention.enable().ok, reason="there is no native library")


@pytest.fixture(autouse=True)
def _on() -> Iterator[None]:
    assert register_types().ok
    yield
    attention.use("own")


def load(engine: Callable[..., Engine], name: str, **more: object) -> Engine:
    slides = name in ("gemma2", "gemma3", "gemma3n", "gemma4", "gpt-oss", "cohere2", "olmo2")
    e = engine(name, n_swa=WINDOW, **more) if slides else engine(name, **more)
    e.model.centring = None
    return e


@pytest.fixture
def plain(engine: Callable[..., Engine]) -> Iterator[Engine]:
    """A llama; its centring is taken away again."""
    e = load(engine, "llama")
    yield e
    e.model.centring = None


def constants(e: Engine, seed: int = 0, **more: object) -> Centring:
    return made_centring(e.geometry, ropes_of(e.model, e.geometry), seed, **more)  # type: ignore[arg-type]


def read(c: Context, e: Engine, n: int = 150, at: int = 0, seq: int = 0) -> NDArray[np.float32]:
    """Logits after ``n`` tokens in a batch and after three single ones."""
    ids = e.tokens(at + n + 3)
    assert c.decode(ids[at : at + n], at, seq=seq) == 0
    found = [c.logits().copy()]
    for i in range(at + n, at + n + 3):
        assert c.decode(ids[i : i + 1], i, seq=seq) == 0
        found.append(c.logits().copy())
    return np.array(found)


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Relative."""
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(a**2)))


def centred(e: Engine, type_k: int = Q8_0, **more: int) -> Context:
    settings = {"n_ctx": 512, "n_ubatch": 64, "n_batch": 512, "n_threads": 1} | more
    c = Context(e.model, type_k=type_k, type_v=Q8_0, **settings)  # type: ignore[arg-type]
    assert c.centring is not None
    return c


# ---------------------------------------------------------------- models


@pytest.mark.parametrize("name", MODELS)
def test_models_say_what_they_say_with_whole_rows(engine: Callable[..., Engine], name: str) -> None:
    """With the constants of a text. 8 bits are nearly exact, so both are nearly what f16 says."""
    e = load(engine, name)
    with e.context(F16, F16) as c:
        want = read(c, e)
    with e.context(Q8_0, Q8_0) as c:
        without = distance(want, read(c, e))
    e.model.centring = from_text(e.model, e.geometry, e.tokens(200), 1)
    try:
        with centred(e) as c:
            assert e.model.centring.layers
            got = read(c, e)
    finally:
        e.model.centring = None
    assert distance(want, got) < max(0.02, 1.5 * without)


def test_a_cache_that_knows_no_positions_keeps_its_rows_whole(engine: Callable[..., Engine]) -> None:
    """Cohere 2's layers without a window have no RoPE: nothing tells where their rows stand."""
    e = load(engine, "cohere2")
    found = from_text(e.model, e.geometry, e.tokens(200), 1)
    assert {part for part, _ in found.layers} == {1}


def test_layers_without_positions_behind_one_with_are_centred(engine: Callable[..., Engine]) -> None:
    """Every fourth of SmolLM3."""
    e = load(engine, "smollm3", n_layer=5)
    ropes = ropes_of(e.model, e.geometry)
    assert any(not rope.used for rope in ropes[0])
    assert len(from_text(e.model, e.geometry, e.tokens(100), 1).layers) == len(ropes[0])


def test_a_huge_bias_is_taken_out_by_what_the_weights_say(engine: Callable[..., Engine]) -> None:
    """Few bits break this model with whole rows, as they break Qwen2.5; without the constant they do not."""
    e = load(engine, "huge_bias_qwen2")
    with e.context(F16, F16) as c:
        want = read(c, e)
    with e.context(Q4_0, Q8_0) as c:
        whole = distance(want, read(c, e))
    for found in (from_bias(e.model, e.geometry), from_text(e.model, e.geometry, e.tokens(200), 1)):
        assert found is not None
        e.model.centring = found
        with centred(e, Q4_0) as c:
            assert distance(want, read(c, e)) < 0.4 * whole, found.source
    e.model.centring = None


def test_some_layers_alone(engine: Callable[..., Engine]) -> None:
    """Not the first: the positions are asked at the first that is centred, loaded rows looked for there."""
    e = load(engine, "llama", n_layer=3)
    with e.context(Q8_0, Q8_0) as c:
        want = read(c, e)
    for layers in ((1,), (1, 2), (2,), (0, 2)):
        e.model.centring = constants(e, layers=layers)
        with centred(e) as c:
            assert distance(want, read(c, e)) < 0.03
            state = save(c)
        with centred(e) as c:
            assert c.load_state(state.data)
            assert c.decode(e.tokens(154)[153:], 153) == 0
    e.model.centring = None


@pytest.mark.parametrize("n_batch", [1, 7, 64, 512])
def test_batches_of_any_size(plain: Engine, n_batch: int) -> None:
    plain.model.centring = constants(plain)
    with centred(plain, n_ubatch=512) as c:
        want = read(c, plain, 120)
    with centred(plain, n_ubatch=n_batch, n_batch=n_batch) as c:
        ids = plain.tokens(123)
        for at in range(0, 120, n_batch):
            assert c.decode(ids[at : min(at + n_batch, 120)], at) == 0
        got = [c.logits().copy()]
        for i in range(120, 123):
            assert c.decode(ids[i : i + 1], i) == 0
            got.append(c.logits().copy())
    assert distance(want, np.array(got)) < 0.02


def test_exact_rows_lack_what_the_cache_lacks(plain: Engine) -> None:
    """A window over everything is the exact cache, whatever the type and the constant."""
    with plain.context(F16, F16) as c:
        want = read(c, plain)
    plain.model.centring = constants(plain, size=4.0)
    with centred(plain, Q4_0) as c:
        without = distance(want, read(c, plain))
    for tail in (Tail(400), Tail(400, 4)):
        with tail:
            c = Context(plain.model, n_ctx=512, type_k=Q4_0, type_v=Q4_0, n_ubatch=64, n_threads=1)
        with c:
            assert c.centring is not None
            got = distance(want, read(c, plain))
    assert got < 0.02 < without


def test_a_sliding_cache_that_wraps(engine: Callable[..., Engine]) -> None:
    """Cells that held other positions before."""
    e = load(engine, "gemma3")
    results = []
    for found in (None, constants(e, size=0.5)):
        e.model.centring = found
        with Context(e.model, n_ctx=1024, n_ubatch=32, n_batch=512, type_k=Q8_0, type_v=Q8_0) as c:
            assert c.centring is found
            for at in range(0, 800, 100):
                last = read(c, e, 97, at)
        results.append(last)
    e.model.centring = None
    assert distance(*results) < 0.05


def test_two_contexts_with_two_constants(plain: Engine) -> None:
    """Side by side, and one of f16: each reads its own rows."""
    with plain.context(F16, F16) as c:
        want = read(c, plain)
    plain.model.centring = constants(plain, 1)
    with centred(plain) as a:
        plain.model.centring = constants(plain, 2)
        with centred(plain) as b, plain.context(F16, F16) as whole:
            assert whole.centring is None
            assert a.centring != b.centring
            ids = plain.tokens(153)
            for c in (a, b, whole):
                assert c.decode(ids[:150], 0) == 0
            for i in range(150, 153):
                for c in (b, whole, a):
                    assert c.decode(ids[i : i + 1], i) == 0
                    assert distance(want[i - 149], c.logits()) < 0.03
            assert not a.load_state(save(b).data)
            assert not a.load_state(save(whole).data)
            assert not whole.load_state(save(a).data)


# ---------------------------------------------------------------- what is done with a context


def test_emptied_and_filled_again(plain: Engine) -> None:
    """``clear``, ``remove`` and states that were loaded, before anything of them was computed too."""
    plain.model.centring = constants(plain)
    with centred(plain) as c:
        want = read(c, plain)
        state = save(c)
        c.clear()
        assert np.array_equal(read(c, plain), want)
        assert c.remove(40)
        np.testing.assert_allclose(read(c, plain, 110, 40), want, atol=0.05)
        assert c.load_state(state.data)
        c.clear()
        assert np.array_equal(read(c, plain), want)
        assert c.load_state(state.data)
        assert c.remove(0)
        assert np.array_equal(read(c, plain), want)
        assert c.load_state(state.data) and c.load_state(state.data)
        assert c.remove(150)
        np.testing.assert_allclose(read(c, plain, 1, 150)[0], want[1], atol=0.05)


def test_a_state_that_is_refused_costs_nothing(plain: Engine) -> None:
    plain.model.centring = constants(plain)
    with centred(plain) as c:
        want = read(c, plain)
        state = save(c)
        for cut in (state.data.size - 3, 100, 9, 8, 3):
            assert not c.load_state(state.data[:cut].copy())
        assert c.load_state(state.data)
        assert not c.load_state(state.data[: state.data.size - 3].copy())
        c.clear()
        assert np.array_equal(read(c, plain), want)


def test_holes_in_the_cache(plain: Engine) -> None:
    """A state of some cells, in cells that others had before."""
    plain.model.centring = constants(plain)
    with plain.context(F16, F16) as c:
        read(c, plain)
        assert c.remove(20, 90)
        assert c.decode(plain.tokens(154)[153:], 153) == 0
        want = c.logits().copy()
    with centred(plain) as c:
        read(c, plain)
        assert c.remove(20, 90)
        state = save(c)
        assert c.decode(plain.tokens(154)[153:], 153) == 0
        got = c.logits().copy()
    with centred(plain) as c:
        assert c.decode(plain.tokens(30), 0) == 0
        assert c.load_state(state.data)
        assert c.decode(plain.tokens(154)[153:], 153) == 0
        again = c.logits().copy()
    assert distance(want, got) < 0.03
    assert distance(got, again) < 0.01


def test_two_sequences(plain: Engine) -> None:
    """In streams of their own: read by turns, saved, both loaded before anything is computed."""
    plain.model.centring = constants(plain)
    with centred(plain) as c:
        want = read(c, plain, 100)
    with centred(plain, n_ctx=1024, n_seq_max=2, n_outputs_max=2) as c:
        for seq in (0, 1):
            np.testing.assert_allclose(read(c, plain, 100, seq=seq), want, atol=0.05)
        data = np.empty(c.state_size(1), np.uint8)
        assert c.save_state(data, 1) == data.size
    ids = plain.tokens(105)
    with centred(plain, n_ctx=1024, n_seq_max=2, n_outputs_max=2) as c:
        assert c.load_state(data, 0)
        assert c.load_state(data, 1)
        for seq in (1, 0):
            assert c.remove(102, seq=seq)
            assert c.decode(ids[102:103], 102, seq=seq) == 0
            np.testing.assert_allclose(c.logits(), want[3], atol=0.05)
        assert c.load_state(data, 1)
        assert c.remove(102, seq=1)
        assert c.decode(ids[102:103], 102, seq=1) == 0
        np.testing.assert_allclose(c.logits(), want[3], atol=0.05)


def test_the_part_of_a_sliding_window(engine: Callable[..., Engine]) -> None:
    """A checkpoint, and back to it."""
    e = load(engine, "gemma3")
    e.model.centring = constants(e, size=0.5)
    with centred(e) as c:
        read(c, e, 197)
        part = np.empty(c.state_size(partial=True), np.uint8)
        assert c.save_state(part, partial=True) == part.size
        want = read(c, e, 50, 200)
        assert c.load_state(part, partial=True)
        assert c.remove(200)
        assert distance(want, read(c, e, 50, 200)) < 0.03
        assert c.load_state(part, partial=True)
        c.clear()
        read(c, e, 100)
    e.model.centring = None


def test_a_position_that_nobody_knows_is_an_error(plain: Engine) -> None:
    """Rows that are read without one make no reply, and the context works again once it is empty."""
    plain.model.centring = constants(plain)
    with centred(plain) as c:
        want = read(c, plain)
        state = save(c)
        assert c.load_state(state.data)
        native = c._centred
        assert native is not None
        unknown = state.data.copy()
        unknown[state.parts[0].k[0].offset] ^= (
            0xFF  # the row that is looked for is another than the one loaded
        )
        assert native.loaded(read_state(unknown), 0)
        assert c.decode(plain.tokens(154)[153:], 153) == LOST_CONSTANT
        assert c.decode(plain.tokens(155)[154:], 154) == LOST_CONSTANT
        c.clear()
        assert np.array_equal(read(c, plain), want)


# ---------------------------------------------------------------- kernels


def test_a_context_stays_centred_when_the_kernel_is_switched_off(plain: Engine) -> None:
    """Only the own kernel can read its rows. New contexts then have whole ones."""
    plain.model.centring = constants(plain, size=4.0)
    with centred(plain) as c:
        want = read(c, plain)
        c.clear()
        attention.use("stock")
        with plain.context(Q8_0, Q8_0) as new:
            assert new.centring is None
            ids = plain.tokens(153)
            assert c.decode(ids[:150], 0) == 0
            assert new.decode(ids[:150], 0) == 0
            assert distance(want[0], c.logits()) < 0.02
            attention.use("own")
            for i in range(150, 153):
                assert c.decode(ids[i : i + 1], i) == 0
                assert distance(want[i - 149], c.logits()) < 0.02


IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
import numpy as np
from models.geometry import read_shape
from models.header import read_header
from quantize.centrings import from_text
from quantize.llama import LOST_CONSTANT, Context, Model, send_log_to
from quantize.native import attention, register_types
from quantize.state import read_state
send_log_to(lambda _level, _text: None)
register_types(); attention.enable()
path = Path(sys.argv[1])
model = Model(path)
geometry = read_shape(read_header(path)).geometry()
ids = np.random.default_rng(7).integers(3, model.n_vocab, 160).tolist()
model.centring = from_text(model, geometry, ids, 1)
with Context(model, n_ctx=256, type_k=8, type_v=8, n_threads=1) as c:
    print(c.centring is not None)
    print(c.decode(ids[:150], 0), *np.round(c.logits()[:8].astype(float), 3))
    if c.centring is not None:
        data = np.empty(c.state_size(), np.uint8)
        c.save_state(data)
        state = read_state(data)
        c.load_state(data)
        other = data.copy()
        other[state.parts[0].k[0].offset] ^= 255
        c._centred.loaded(read_state(other), 0)
        print(c.decode(ids[150:151], 150) == LOST_CONSTANT)
        c.clear()
        print(c.decode(ids[:150], 0))
"""


@pytest.mark.parametrize("kernel", ["own", "device", "stock"])
def test_whatever_the_environment_chooses(plain: Engine, kernel: str) -> None:
    """Inside ggml's CPU backend, as a device of its own, or not at all."""
    with plain.context(F16, F16) as c:
        assert c.decode(plain.tokens(150), 0) == 0
        want = c.logits()[:8].copy()
    done = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(plain.model.path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "STRETCH_KERNEL": kernel},
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert lines, done.stderr
    code, *logits = lines[1].split()
    assert code == "0"
    assert distance(want, np.array(logits, np.float32)) < 0.1
    assert lines[0] == str(kernel != "stock")
    assert lines[2:] == ([] if kernel == "stock" else ["True", "0"])
