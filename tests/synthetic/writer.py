"""Writes one GGUF file with seeded random weights through the ``gguf`` package."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from tests.synthetic.vocab import CHAT_TEMPLATE, END, make_vocab

Array = np.ndarray[Any, np.dtype[np.float32]]


class ModelWriter:
    """Collects the keys and tensors of a model and writes the file.

    Every tensor has a random stream of its own (seed and name), so that two models that differ
    in one parameter share all weights whose shape is the same.
    """

    def __init__(
        self,
        path: Path,
        arch: str,
        *,
        seed: int = 0,
        weight_type: str = "f16",
        hollow: bool = False,
        levels: int = 0,
    ) -> None:
        """Start a file.

        Args:
            arch: ``general.architecture``, the prefix of :meth:`key`.
            weight_type: type of the matrices: f32, f16, bf16, q8_0, q4_0, mxfp4, tq2_0, ... Rows
                whose length its block does not divide stay f16.
            levels: 2 or 3 make the matrices of the layers 1-bit or ternary: signs, or signs and zeros, times
                one scale for the whole matrix, as models are that were trained so.
            hollow: write a header and a hole of the right size instead of the weights: a model of
                any size that takes no disk space. It is for planning; its weights are zeros.
        """
        self.path = path
        self.arch = arch
        self.seed = seed
        self.hollow = hollow
        self.levels = levels
        self.weight_type = GGMLQuantizationType[weight_type.upper()]
        self.gguf = GGUFWriter(None, arch)
        self.gguf.add_name("synthetic")  # llama.cpp has special rules for names with "phi3" in them
        self._holes = 0

    def key(self, name: str, value: bool | int | float | str | Sequence[Any]) -> None:
        """A metadata key below the architecture's prefix; the Python type chooses the GGUF type."""
        self.raw_key(f"{self.arch}.{name}", value)

    def raw_key(self, name: str, value: bool | int | float | str | Sequence[Any]) -> None:
        """A metadata key with its full name."""
        if isinstance(value, bool):
            self.gguf.add_bool(name, value)
        elif isinstance(value, int):
            self.gguf.add_uint32(name, value)
        elif isinstance(value, float):
            self.gguf.add_float32(name, value)
        elif isinstance(value, str):
            self.gguf.add_string(name, value)
        else:
            self.gguf.add_array(name, value)

    def keys(self, values: dict[str, bool | int | float | str | Sequence[Any]]) -> None:
        """Several keys below the architecture's prefix."""
        for name, value in values.items():
            self.key(name, value)

    def vocabulary(self, n_vocab: int, template: str | None = CHAT_TEMPLATE) -> None:
        """The tokenizer, and the chat template unless it is None."""
        tokens, types, merges = make_vocab(n_vocab)
        self.key("vocab_size", n_vocab)
        self.raw_key("tokenizer.ggml.model", "gpt2")
        self.raw_key("tokenizer.ggml.pre", "gpt-2")
        self.gguf.add_token_list(tokens)
        self.gguf.add_token_types(types)
        self.gguf.add_token_merges(merges)
        self.raw_key("tokenizer.ggml.eos_token_id", END)
        self.raw_key("tokenizer.ggml.padding_token_id", 0)
        self.raw_key("tokenizer.ggml.add_bos_token", False)
        if template is not None:
            self.raw_key("tokenizer.chat_template", template)

    def random(self, name: str, *shape: int) -> Array:
        """Standard normal values of the tensor's own stream; shape in numpy's order."""
        if self.hollow:
            return np.broadcast_to(np.float32(0), shape)
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        return rng.standard_normal(shape, np.float32)

    def matrix(self, name: str, n_in: int, n_out: int, *more: int, gain: float = 1.0) -> None:
        """A linear map: ggml's shape is (n_in, n_out, *more). Unit input gives output of size ``gain``."""
        values = self.random(name, *reversed(more), n_out, n_in)
        if self.levels and name.startswith("blk."):
            values = np.sign(values) * (np.abs(values) > (0.5 if self.levels == 3 else 0)).astype(np.float32)
        self.tensor(name, values, self.weight_type, scale=gain / math.sqrt(n_in))

    def vector(self, name: str, n: int, value: float = 1.0, spread: float = 0.0) -> None:
        """``n`` float32 values around ``value``: norms and biases."""
        self.tensor(name, self.random(name, n), scale=spread, shift=value)

    def tensor(
        self,
        name: str,
        data: Array,
        kind: GGMLQuantizationType = GGMLQuantizationType.F32,
        *,
        scale: float = 1.0,
        shift: float = 0.0,
    ) -> None:
        """A tensor in numpy's order of dimensions, ``data * scale + shift`` converted to ``kind``."""
        block, type_size = GGML_QUANT_SIZES[kind]
        if data.shape[-1] % block:
            kind = GGMLQuantizationType.F16
            block, type_size = 1, 2
        if self.hollow:
            n_bytes = data.size // block * type_size
            self.gguf.add_tensor_info(name, data.shape, np.dtype(np.float32), n_bytes, raw_dtype=kind)
            self._holes += -(-n_bytes // 32) * 32
        else:
            values = np.ascontiguousarray(data * np.float32(scale) + np.float32(shift), np.float32)
            self.gguf.add_tensor(name, quantize(values, kind), raw_dtype=kind)

    def write(self) -> Path:
        """Write the file; its path."""
        self.gguf.write_header_to_file(self.path)
        self.gguf.write_kv_data_to_file()
        if self.hollow:
            self.gguf.write_ti_data_to_file()
            self.gguf.close()
            size = self.path.stat().st_size
            os.truncate(self.path, -(-size // 32) * 32 + self._holes)
        else:
            self.gguf.write_tensors_to_file()
            self.gguf.close()
        return self.path
