"""Checkpoint to GGUF: ``python -m models.training.export CHECKPOINT OUT.gguf --to q8_0|f16|tq2_0``.

The rotary embedding of the network rotates neighbouring pairs as llama.cpp's ``llama`` architecture
does, so that no row has to be permuted. Ternary weights are stored without loss.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np
import torch

from models.training.config import Shape
from models.training.gguf_file import begin, finish
from models.training.network import ternary

_TYPES = {
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "f16": gguf.GGMLQuantizationType.F16,
    "tq2_0": gguf.GGMLQuantizationType.TQ2_0,
}


def export(checkpoint: Path, out: Path, to: str, name: str, description: str) -> None:
    """Write the GGUF file."""
    saved = torch.load(checkpoint, map_location="cpu")
    writer = begin(out, Shape(**saved["run"]["shape"]), to, name, description)
    for key, tensor in saved["weights"].items():
        data = tensor.float()
        kind = _TYPES[to]
        if data.ndim == 1:
            writer.add_tensor(key, data.numpy())
            continue
        if to == "tq2_0":
            if key.startswith("blk"):
                data = ternary(data)
            else:
                kind = _TYPES["q8_0"]
        packed = gguf.quants.quantize(data.numpy(), kind)
        if to == "tq2_0" and key.startswith("blk"):
            assert np.array_equal(gguf.quants.dequantize(packed, kind), data.numpy()), f"{key} is not ternary"
        writer.add_tensor(key, packed, raw_dtype=kind)
    finish(writer)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--to", choices=_TYPES, default="q8_0")
    parser.add_argument("--name", default="Stretch demonstration")
    parser.add_argument("--description", default="A small demonstration model that comes with Stretch.")
    args = parser.parse_args()
    export(args.checkpoint, args.out, args.to, args.name, args.description)


if __name__ == "__main__":
    main()
