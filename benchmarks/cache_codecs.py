"""What each choice in the TurboQuant formats is worth: KLD of variants, everything compressed as written.

    python -m benchmarks.cache_codecs                  # every variant
    python -m benchmarks.cache_codecs --only scalar,tq3 --tokens 1024

A text is read 32 tokens at a time with an f16 cache, and after each batch its rows are replaced in the saved
state by what a variant leaves of them: turned as llama.cpp turns them, coded, decoded, turned back. So every
variant is measured alike, whether or not there is C code for it, and later tokens read what was coded.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import llama_cpp.llama_cpp as L
import numpy as np
from numpy.typing import NDArray

from models.geometry import read_shape
from models.header import read_header
from models.resolve import resolve
from quantize.lab.divergence import Divergence, log_softmax
from quantize.lab.text import built_in_text
from quantize.llama import Context, Model, send_log_to
from quantize.state import read_state
from quantize.turboquant.lloyd_max import lloyd_max
from quantize.turboquant.mse import random_rotation
from quantize.turboquant.prod import Prod
from quantize.turboquant.trellis import FORMATS, dequantize, quantize

BATCH = 32
Rows = NDArray[np.float64]
"""Vectors of one head, shape (n, head_dim)."""
Code = Callable[[Rows], Rows]


@dataclass(frozen=True)
class Variant:
    """What is left of K and of V; None leaves a side exact."""

    name: str
    k: Code | None
    v: Code | None
    mean_of_k: bool = False
    """Subtract the mean of each channel of K over the first batch's text (calibration) before coding."""


def turned(code: Code, turn: NDArray[np.float64]) -> Code:
    """``code`` in turned coordinates."""
    n = len(turn)
    return lambda x: (code((x.reshape(-1, n) @ turn).reshape(x.shape)).reshape(-1, n) @ turn.T).reshape(
        x.shape
    )


def matrix(n: int) -> NDArray[np.float64]:
    """The Hadamard matrix that llama.cpp turns with."""
    h = np.ones((1, 1))
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    return np.asarray(h / np.sqrt(n))


def scalar(bits: int, scale: str = "norm", block: int = 128) -> Code:
    """Lloyd-Max levels with one f16 scale per block.

    Args:
        scale: ``norm``: the root mean square, as in the paper. ``fit``: the least squared error for the
            levels that the norm chose. ``search``: the best of many scales, each with its own levels.
    """
    levels = np.array(lloyd_max(bits))
    borders = (levels[1:] + levels[:-1]) / 2

    def code(x: Rows) -> Rows:
        rows = x.reshape(-1, block)
        rms = np.sqrt((rows * rows).mean(1, keepdims=True)) + 1e-12

        def fitted(unit: Rows) -> Rows:
            q = levels[np.searchsorted(borders, rows / unit)]
            best = (rows * q).sum(1, keepdims=True) / (q * q).sum(1, keepdims=True)
            return (best.astype(np.float16) if scale != "norm" else unit.astype(np.float16)) * q

        out = fitted(rms)
        if scale == "search":
            error = ((rows - out) ** 2).sum(1, keepdims=True)
            for factor in np.linspace(0.8, 1.25, 19):
                other = fitted(rms * factor)
                worse = ((rows - other) ** 2).sum(1, keepdims=True)
                out, error = np.where(worse < error, other, out), np.minimum(worse, error)
        return np.asarray(out, np.float64).reshape(x.shape)

    return code


def prod(bits: int, dim: int, orthogonal: bool) -> Code:
    """The paper's ``prod``: the last bit goes into the sketch of the rest."""
    made = Prod(dim, bits, orthogonal=orthogonal)
    return lambda x: made.dequantize(made.quantize(x))


def trellis(bits: int, block: int = 128) -> Code:
    """The shipped format."""
    fmt = FORMATS[f"tq{bits}", block]

    def code(x: Rows) -> Rows:
        rows = x.reshape(-1, block).astype(np.float32)
        return dequantize(fmt, quantize(fmt, rows)).astype(np.float64).reshape(x.shape)

    return code


def variants(dim: int) -> list[Variant]:
    """All of them, for heads of ``dim`` values."""
    h_k, h_v = matrix(dim), matrix(64)
    signs = np.sign(random_rotation(dim, 5)[0])
    dense = random_rotation(dim, 3).T

    def both(name: str, code: Code, mean: bool = False) -> Variant:
        return Variant(name, turned(code, h_k), turned(code, h_v), mean)

    flipped_v = np.diag(signs[:64]) @ h_v
    out = [
        Variant("scalar3 unrotated", scalar(3), scalar(3)),
        both("scalar3 hadamard", scalar(3)),
        Variant("scalar3 dense", turned(scalar(3), dense), turned(scalar(3), dense)),
        Variant(
            "scalar3 signs+hadamard", turned(scalar(3), np.diag(signs) @ h_k), turned(scalar(3), flipped_v)
        ),
        both("scalar3 fit", scalar(3, "fit")),
        both("scalar3 search", scalar(3, "search")),
        both("scalar3 search, block 64", scalar(3, "search", 64)),
        Variant("prod3 on K", turned(prod(3, dim, False), h_k), turned(scalar(3), h_v)),
        Variant("prod3 orthogonal on K", turned(prod(3, dim, True), h_k), turned(scalar(3), h_v)),
        both("tq3", trellis(3)),
        both("tq3, block 64", trellis(3, 64)),
        both("tq3, mean of K", trellis(3), mean=True),
        Variant("tq3, signs", turned(trellis(3), np.diag(signs) @ h_k), turned(trellis(3), flipped_v)),
        Variant("tq3 K only", turned(trellis(3), h_k), None),
        Variant("tq3 V only", None, turned(trellis(3), h_v)),
        both("scalar4 hadamard", scalar(4)),
        both("tq4", trellis(4)),
        both("scalar2 hadamard", scalar(2)),
        both("tq2", trellis(2)),
        Variant("tq2 K only", turned(trellis(2), h_k), None),
        Variant("tq2 V only", None, turned(trellis(2), h_v)),
    ]
    return out


class Bench:
    """The model, the text and the exact answers."""

    def __init__(self, path: Path, n_tokens: int) -> None:
        self.model = Model(path)
        self.heads = read_shape(read_header(path)).geometry().parts[0][0]
        text = self.model.tokenize(built_in_text(), parse_special=False)
        self.tokens, self.other = text[:n_tokens], text[-1024:]
        self.exact: list[NDArray[np.float32]] = []
        self._means: list[Rows] | None = None

    def context(self) -> Context:
        return Context(
            self.model, n_ctx=len(self.tokens) + 64, n_batch=BATCH, n_ubatch=BATCH, n_outputs_max=BATCH
        )

    def logits(self, context: Context, at: int) -> NDArray[np.float32]:
        part = self.tokens[at : at + BATCH]
        assert context.decode(part, at, logits="all") == 0
        shape = (len(part), self.model.n_vocab)
        return np.ctypeslib.as_array(L.llama_get_logits(context.handle), shape=shape).copy()

    def read_exactly(self) -> None:
        with self.context() as context:
            self.exact = [self.logits(context, at) for at in range(0, len(self.tokens) - 1, BATCH)]

    def means(self) -> list[Rows]:
        """Mean of each channel of K per layer, from another text."""
        if self._means is None:
            with self.context() as context:
                for at in range(0, 1024, BATCH):
                    context.decode(self.other[at : at + BATCH], at, logits="none")
                state = read_state(saved(context))
                rows = [state.rows(r).copy().view(np.float16).astype(np.float64) for r in state.parts[0].k]
                self._means = [r.mean(0) for r in rows]
        return self._means

    def measure(self, variant: Variant) -> Divergence:
        found = Divergence()
        dim = self.heads.head_dim_k
        means = self.means() if variant.mean_of_k else None
        with self.context() as context:
            for i, at in enumerate(range(0, len(self.tokens) - 1, BATCH)):
                logits = self.logits(context, at)
                after = np.array(self.tokens[at + 1 : at + 1 + BATCH], np.int64)
                p, q = (log_softmax(x[: len(after)]) for x in (self.exact[i], logits))
                found.add(p, q, after)
                data = saved(context)
                state = read_state(data)
                for code, sides in ((variant.k, state.parts[0].k), (variant.v, state.parts[0].v)):
                    if code is None:
                        continue
                    stacked = [state.rows(r)[at:].view(np.float16) for r in sides]
                    rows = np.stack(stacked).astype(np.float64)
                    shift = np.stack(means)[:, None] if means and sides is state.parts[0].k else 0.0
                    coded = code((rows - shift).reshape(-1, dim)).reshape(rows.shape) + shift
                    for target, new in zip(stacked, coded, strict=True):
                        target[:] = new
                context.clear()
                assert context.load_state(data)
        return found


def saved(context: Context) -> NDArray[np.uint8]:
    data = np.empty(context.state_size(), np.uint8)
    context.save_state(data)
    return data


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--only", default="", help="beginnings of names, separated by commas")
    args = parser.parse_args()
    send_log_to(lambda _level, _text: None)
    bench = Bench(resolve(args.model), args.tokens)
    bench.read_exactly()
    wanted = tuple(args.only.split(",")) if args.only else ("",)
    print(f"{'variant':<28} {'KLD':>7} {'error':>7} {'median':>7} {'99.9%':>7} {'top-1':>6}")
    for variant in variants(bench.heads.head_dim_k):
        if variant.name.startswith(wanted):
            s = bench.measure(variant).summary()
            figures = f"{s.kld_mean:>7.4f} {s.kld_mean_error:>7.4f} {s.kld_median:>7.4f} {s.kld_p999:>7.3f}"
            print(f"{variant.name:<28} {figures} {s.top1:>6.1%}", flush=True)


if __name__ == "__main__":
    main()
