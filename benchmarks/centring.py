"""What each choice about the constant of K is worth: KLD against an f16 cache of the same weights.

    python -m benchmarks.centring MODEL [--kv tq4,tq3,tq3+256] [--ways whole,bias,mean,head] [--tokens 1024]

Everything is compressed as it is written. A way is how K is stored:

    whole       as it is
    bias        without ``attn_k.bias``
    mean        without its mean before RoPE (a text of 512 tokens, other than the one that is judged)
    head        the same, and channel pairs with equal spread: what the program does
    layer       the same with one spread for all heads of a layer
    full        the whole spread divided out, not its root
    slow        like head, but the pairs that turn fast keep their constant
    every       like head, but every pair loses its constant, whatever it costs the kernel
    first       like head, but the first tokens lose the constant too
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.geometry import read_shape
from models.header import read_header
from quantize import centrings
from quantize.cache_types import parse_pair
from quantize.centring import Centring, LayerCentring, rounded
from quantize.centring_store import builtin_text
from quantize.lab.opening import Opening
from quantize.lab.own_loss import log_probabilities
from quantize.lab.subject import Workbench
from quantize.lab.text import built_in_text
from quantize.llama import Model, send_log_to

BATCH = 256
WAYS = ("whole", "bias", "mean", "head", "layer", "full", "slow", "every", "first")


def changed(centring: Centring, change: Callable[[LayerCentring], LayerCentring]) -> Centring:
    """Every layer of it changed."""
    layers = {key: change(layer) for key, layer in centring.layers.items()}
    return Centring(centring.geometry, centring.ropes, layers, "text")


def one_spread(layer: LayerCentring) -> LayerCentring:
    """The mean spread of the heads in all of them."""
    mean = np.exp(np.log(layer.scale).mean(axis=0, keepdims=True))
    return rounded(layer.centre, np.broadcast_to(mean, layer.scale.shape).copy(), layer.whole)


def way(name: str, bench: Workbench, tokens: list[int]) -> Centring | None:
    """K as this way stores it."""
    model: Model = bench.model
    if name == "whole":
        return None
    if name == "bias":
        return centrings.from_bias(model, bench.geometry)
    worth, power, fast = centrings.WORTH, centrings.POWER, centrings.FAST
    try:
        centrings.POWER = {"mean": 0.0, "full": 1.0}.get(name, power)
        centrings.WORTH = {"slow": np.inf}.get(name, worth)
        centrings.FAST = {"every": np.inf}.get(name, fast)
        found = centrings.from_text(model, bench.geometry, tokens, bench.n_threads)
    finally:
        centrings.WORTH, centrings.POWER, centrings.FAST = worth, power, fast
    if name == "layer":
        return changed(found, one_spread)
    if name == "first":
        return changed(found, lambda layer: replace(layer, whole=np.zeros_like(layer.whole)))
    return found


def read(bench: Workbench, tokens: list[int], label: str) -> NDArray[np.float32]:
    """Log probabilities after every token, shape (tokens, n_vocab)."""
    name, _, tail = label.partition("+")
    types = parse_pair(name).type_ids(bench.head_dims_k, bench.head_dims_v)
    found = np.empty((len(tokens), bench.model.n_vocab), np.float32)
    with bench.open(
        *types, tail=int(tail or 0), n_ctx=len(tokens) + 1, n_batch=BATCH, n_outputs=BATCH
    ) as subject:
        for at in range(0, len(tokens), BATCH):
            batch = tokens[at : at + BATCH]
            subject.read(batch, at, logits="all")
            found[at : at + len(batch)] = log_probabilities(subject.logits(len(batch)))
    return found


def kld(exact: NDArray[np.float32], found: NDArray[np.float32]) -> tuple[float, float]:
    """Mean over the tokens, and the share of equal next tokens."""
    each = [float(np.dot(np.exp(p), p - q)) for p, q in zip(exact, found, strict=True)]
    return float(np.mean(each)), float((exact.argmax(axis=1) == found.argmax(axis=1)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--kv", default="tq4,tq3,tq2,tq3+256")
    parser.add_argument("--ways", default="whole,bias,mean,head")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    send_log_to(lambda _level, _text: None)
    geometry = read_shape(read_header(args.model)).geometry()
    opening = Opening(str(args.model), geometry, n_threads=args.threads)
    with Workbench(opening, Model(args.model)) as bench:
        text = bench.model.tokenize(built_in_text()[: 16 * args.tokens], add_special=True)[: args.tokens]
        other = bench.model.tokenize(builtin_text(), add_special=True)[: centrings.TEXT_TOKENS]
        exact = read(bench, text, "f16")
        labels = args.kv.split(",")
        print(f"{args.model.name}, {len(text)} tokens: KLD (same next token)")
        print(f"{'K is stored':12} {'KiB':>6} " + " ".join(f"{label:>16}" for label in labels), flush=True)
        for name in args.ways.split(","):
            if name not in WAYS:
                sys.exit(f"There is no way {name!r}: choose of {', '.join(WAYS)}.")
            bench.model.centring = way(name, bench, other)
            if bench.model.centring is None and name != "whole":
                continue  # no bias
            size = bench.model.centring.n_bytes / 1024 if bench.model.centring is not None else 0.0
            row = [kld(exact, read(bench, text, label)) for label in labels]
            print(f"{name:12} {size:6.1f} " + " ".join(f"{k:9.4f} {s:6.1%}" for k, s in row), flush=True)
        bench.model.close()


if __name__ == "__main__":
    main()
