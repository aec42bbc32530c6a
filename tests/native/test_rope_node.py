"""The way back from a write to a K cache to the ROPE node, in graphs as models build them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quantize.llama import LIB
from quantize.native import attention
from quantize.native.library import load
from quantize.native.rope_node import Params

pytestmark = pytest.mark.skipif(not attention.enable().ok, reason="there is no native library")

F32, F16, I32, I64 = 0, 1, 26, 27
NONE, KNOWN, UNKNOWN = 0, 1, 2
DIM, HEADS, TOKENS, CELLS = 64, 2, 5, 32

Tensor = Any


class _InitParams(ctypes.Structure):
    """``struct ggml_init_params``."""

    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class Graph:
    """A context of ggml to build nodes in; nothing is computed."""

    def __init__(self) -> None:
        self._ctx = ctypes.c_void_p(self._call("init", _InitParams(1 << 20, None, True)))

    def close(self) -> None:
        self._call("free", self._ctx)

    def _call(self, name: str, *arguments: object) -> Tensor:
        function = LIB[f"ggml_{name}"]  # an object of its own, so that nobody else's declaration changes
        function.restype = ctypes.c_void_p
        return function(*arguments)

    def op(self, name: str, *arguments: object) -> Tensor:
        """A node; Python's ints are dimensions, strides and tensors, its floats are floats."""
        given = [
            ctypes.c_float(a) if isinstance(a, float) else ctypes.c_int64(a) if isinstance(a, int) else a
            for a in arguments
        ]
        return ctypes.c_void_p(self._call(name, self._ctx, *given))

    def tensor(self, *shape: int, kind: int = F32) -> Tensor:
        dims = [ctypes.c_int64(n) for n in (*shape, 1, 1, 1)[:4]]
        return ctypes.c_void_p(self._call("new_tensor_4d", self._ctx, ctypes.c_int(kind), *dims))

    def input(self, *shape: int) -> Tensor:
        made = self.tensor(*shape)
        self._call("set_input", made)
        return made

    def projected(self) -> Tensor:
        """K of a layer: a product with a weight, cut into heads."""
        k = self.op("mul_mat", self.tensor(48, DIM * HEADS), self.tensor(48, TOKENS))
        return self.op("reshape_3d", k, DIM, HEADS, TOKENS)

    def rope(self, k: Tensor, factors: Tensor = None, n_dims: int = DIM) -> Tensor:
        numbers = (500000.0, 0.5, 1.0, 1.25, 32.0, 2.0)
        ints = [ctypes.c_int(n) for n in (n_dims, 2, 4096)]
        positions = self.tensor(TOKENS, kind=I32)
        return self.op("rope_ext", k, positions, factors or ctypes.c_void_p(None), *ints, *numbers)

    def hadamard(self, k: Tensor, n: int = DIM) -> Tensor:
        flat = self.op("reshape_2d", k, n, DIM * HEADS * TOKENS // n)
        turned = self.op("mul_mat", self.input(n, n), flat)
        return self.op("reshape_4d", turned, DIM, HEADS, TOKENS, 1)

    def found(self, k: Tensor, name: bytes = b"cache_k_l3", n: int = DIM * HEADS) -> Params | None:
        """What is seen behind the write of ``k`` into a cache."""
        rows = self.op("view_2d", k, n, TOKENS, 4 * DIM * HEADS, 0)
        cache = self.tensor(n, CELLS, kind=F16)
        self._call("set_name", cache, name)
        written = self.op("set_rows", cache, rows, self.tensor(TOKENS, kind=I64))
        params = Params()
        there = load()[0].st_rope_of_node(written, ctypes.byref(params))
        return params if there else None


@pytest.fixture
def graph() -> Iterator[Graph]:
    made = Graph()
    yield made
    made.close()


def kind_of(params: Params | None) -> int:
    assert params is not None
    if params.kind != KNOWN:  # nothing is said of what is not known
        assert not any(bytes(params)[4:])
    return int(params.kind)


def test_every_number_of_the_node_is_read(graph: Graph) -> None:
    factors = graph.tensor(DIM // 2)
    found = graph.found(graph.rope(graph.projected(), factors))
    assert found is not None and found.kind == KNOWN
    assert (found.n_dims, found.mode, found.n_ctx_orig, found.offset, found.head_dim) == (64, 2, 4096, 0, 64)
    numbers = found.freq_base, found.freq_scale, found.ext_factor, found.attn_factor
    assert (*numbers, found.beta_fast, found.beta_slow) == (500000.0, 0.5, 1.0, 1.25, 32.0, 2.0)
    assert (found.n_factors, found.factors) == (32, factors.value)
    assert found.hadamard == 0 and found.positions
    found = graph.found(graph.rope(graph.projected(), n_dims=32))
    assert found is not None and (found.n_dims, found.head_dim, found.factors) == (32, 64, None)


BEHIND: dict[str, tuple[Callable[[Graph, Tensor], Tensor], int]] = {
    "nothing": (lambda g, k: k, KNOWN),
    "a Hadamard rotation": (lambda g, k: g.hadamard(k), KNOWN),
    "a smaller one": (lambda g, k: g.hadamard(k, 32), KNOWN),
    "a copy": (lambda g, k: g.op("cont", g.op("permute", k, *map(ctypes.c_int, (0, 1, 2, 3)))), KNOWN),
    "a norm of each head": (lambda g, k: g.op("rms_norm", k, 1e-6), KNOWN),
    "a factor": (lambda g, k: g.op("scale", k, 0.5), KNOWN),
    "a factor and something added": (lambda g, k: g.op("scale_bias", k, 0.5, 1.0), UNKNOWN),
    "a norm of the row": (
        lambda g, k: g.op("rms_norm", g.op("reshape_2d", k, DIM * HEADS, TOKENS), 1e-6),
        UNKNOWN,
    ),
    "factors of channels": (lambda g, k: g.op("mul", k, g.tensor(DIM)), UNKNOWN),
    "a part beside it": (
        lambda g, k: g.op("concat", k, g.tensor(DIM, HEADS, TOKENS), ctypes.c_int(0)),
        UNKNOWN,
    ),
    "two rotations": (lambda g, k: g.hadamard(g.hadamard(k)), UNKNOWN),
}


@pytest.mark.parametrize("name", BEHIND)
@pytest.mark.parametrize("turns", [True, False])
def test_what_stands_between(graph: Graph, name: str, turns: bool) -> None:
    """What commutes with turning a head is passed; what does not makes K unknown; a layer whose K comes from
    its projection knows no positions, whatever is done to it."""
    change, expected = BEHIND[name]
    k = graph.rope(graph.projected()) if turns else graph.projected()
    n = 2 * DIM if name == "a part beside it" else DIM
    assert kind_of(graph.found(change(graph, k), n=n * HEADS)) == (expected if turns else NONE)


def test_the_rotation_of_a_quantized_cache_is_told(graph: Graph) -> None:
    for n in (32, 64, 128):
        found = graph.found(graph.hadamard(graph.rope(graph.projected()), n))
        assert found is not None and found.hadamard == n


def test_a_weight_is_no_rotation(graph: Graph) -> None:
    """A square matrix that is no input is the projection: what is before it is another layer's business."""
    turned = graph.rope(graph.projected())
    flat = graph.op("reshape_2d", turned, DIM, HEADS * TOKENS)
    k = graph.op("mul_mat", graph.tensor(DIM, DIM), flat)
    assert kind_of(graph.found(graph.op("reshape_3d", k, DIM, HEADS, TOKENS))) == NONE


def test_a_part_of_k_is_unknown(graph: Graph) -> None:
    turned = graph.rope(graph.projected())
    half = graph.op("view_3d", turned, DIM // 2, HEADS, TOKENS, 4 * DIM, 4 * DIM * HEADS, 2 * DIM)
    assert kind_of(graph.found(graph.op("cont", half), n=DIM // 2 * HEADS)) == UNKNOWN


def test_only_k_caches_are_looked_at(graph: Graph) -> None:
    for name in (b"cache_v_l3", b"k_l3", b"cache_k_lx"):
        assert graph.found(graph.rope(graph.projected()), name) is None
    params = Params()
    assert not load()[0].st_rope_of_node(graph.rope(graph.projected()), ctypes.byref(params))
