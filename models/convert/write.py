"""Writes the new file, one tensor after the other and some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from numpy.typing import NDArray

from models.convert.llama import LlamaConfig, Planned, tensors
from models.convert.safetensors import Checkpoint
from models.convert.ternary import BLOCK, Matrix, chunks, find_matrix, is_ternary, permuted
from models.convert.tokenizer import Vocabulary
from quantize.errors import ModelFileError
from quantize.ggml import RowFormat, dequantize, quantize, row_format

_ALIGNMENT = 32
_KINDS = {"tq1_0": LlamaFileType.MOSTLY_TQ1_0, "tq2_0": LlamaFileType.MOSTLY_TQ2_0}
_KEPT = {"BF16": "BF16", "F16": "F16", "F32": "F32", "F64": "F32"}
"""Types of tensors that stay as they are."""


@dataclass(frozen=True, slots=True)
class Output:
    """One tensor of the new file, with its type."""

    planned: Planned
    type: GGMLQuantizationType
    matrix: Matrix | None = None
    """Of a layer's ternary matrix."""
    own_scale: bool = False
    """Whether its scale is kept in a tensor of its own, since the blocks' f16 would round it."""

    @property
    def n_bytes(self) -> int:
        """Of its data."""
        block, size = gguf.GGML_QUANT_SIZES[self.type]
        return math.prod(self.planned.shape) // int(block) * int(size)


@dataclass(frozen=True)
class Conversion:
    """Everything that is needed to write a file."""

    config: LlamaConfig
    vocabulary: Vocabulary
    outputs: tuple[Output, ...]
    name: str
    type_name: str

    @property
    def n_bytes(self) -> int:
        """Size of the file, nearly."""
        words = sum(len(t.encode()) + 12 for t in self.vocabulary.tokens)
        merges = sum(len(m.encode()) + 8 for m in self.vocabulary.merges)
        return sum(o.n_bytes + _ALIGNMENT for o in self.outputs) + words + merges + (1 << 16)


def plan_conversion(
    checkpoint: Checkpoint,
    config: LlamaConfig,
    vocabulary: Vocabulary,
    name: str,
    type_name: str = "tq2_0",
    on_progress: Callable[[int, int, str], None] = lambda _n, _of, _name: None,
) -> Conversion:
    """Find out what every tensor becomes. Matrices that are not packed are read once for that.

    Args:
        type_name: ``tq2_0`` or ``tq1_0``.
        on_progress: number, count and name of a tensor.

    Raises:
        ModelFileError: if a tensor is missing or of a wrong shape, or the layers are not ternary.
    """
    wanted = tensors(config, checkpoint)
    outputs = []
    for i, planned in enumerate(wanted):
        on_progress(i, len(wanted), planned.name)
        outputs.append(_output(checkpoint, config, planned, type_name))
    return Conversion(config, vocabulary, tuple(outputs), name, type_name)


def _output(checkpoint: Checkpoint, config: LlamaConfig, planned: Planned, type_name: str) -> Output:
    entry = checkpoint.entries.get(planned.source)
    if entry is None:
        raise ModelFileError(f"The checkpoint lacks {planned.source}.", "Download all of its files.")
    if not planned.in_layer:
        if entry.shape != planned.shape or entry.dtype not in _KEPT:
            raise ModelFileError(f"{planned.source} has an unexpected shape or type.")
        kept = "F32" if len(planned.shape) == 1 else _KEPT[entry.dtype]
        return Output(planned, GGMLQuantizationType[kept])
    matrix = find_matrix(checkpoint, planned.source, multiplied=config.scale_multiplied)
    if (matrix.n_rows, matrix.n_cols) != planned.shape:
        raise ModelFileError(f"{planned.source} has an unexpected shape.")
    if matrix.n_cols % BLOCK:
        raise ModelFileError(
            f"The rows of {planned.source} have {matrix.n_cols} values, which are no whole blocks of {BLOCK}."
        )
    if not is_ternary(checkpoint, matrix):
        raise ModelFileError(
            f"The weights of {planned.source} are not ternary.",
            "Convert the model with llama.cpp's convert_hf_to_gguf.py, then use stretch quantize.",
        )
    rounded = float(np.float16(matrix.scale)) != matrix.scale
    return Output(planned, GGMLQuantizationType[type_name.upper()], matrix, matrix.packed and rounded)


def write_gguf(
    checkpoint: Checkpoint,
    conversion: Conversion,
    path: Path,
    on_progress: Callable[[int, int, str], None] = lambda _n, _of, _name: None,
) -> None:
    """Write the file.

    Raises:
        ModelFileError: if a weight does not come back as it was.
    """
    writer = GGUFWriter(path, "llama")
    try:
        _metadata(writer, conversion)
        factors = conversion.config.rope_factors()
        small: dict[str, NDArray[np.float32]] = {} if factors is None else {"rope_freqs.weight": factors}
        for output in conversion.outputs:
            if output.own_scale and output.matrix is not None:
                name = output.planned.name.removesuffix(".weight") + ".scale"
                small[name] = np.array([output.matrix.scale], np.float32)
        for name, values in small.items():
            writer.add_tensor_info(name, values.shape, values.dtype, values.nbytes)
        for output in conversion.outputs:
            shape = output.planned.shape
            writer.add_tensor_info(
                output.planned.name, shape, np.dtype(np.float32), output.n_bytes, raw_dtype=output.type
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        (file,) = writer.fout
        _pad(file)
        for values in small.values():
            file.write(values.tobytes())
            _pad(file)
        for i, output in enumerate(conversion.outputs):
            on_progress(i, len(conversion.outputs), output.planned.name)
            start = file.tell()
            _write(checkpoint, output, file)
            if file.tell() - start != output.n_bytes:
                raise ModelFileError(f"{output.planned.source} changed while it was read.")
            _pad(file)
    finally:
        writer.close()


def _write(checkpoint: Checkpoint, output: Output, file: BinaryIO) -> None:
    if output.matrix is not None:
        _write_ternary(checkpoint, output, output.matrix, file)
        return
    entry = checkpoint.entries[output.planned.source]
    rows = entry.n_elements // max(entry.row_values, 1)
    step = max((1 << 22) // max(entry.row_values, 1), 1)
    for first in range(0, rows, step):
        values = checkpoint.rows(entry.name, first, min(step, rows - first))
        if output.type is GGMLQuantizationType.BF16:
            file.write((values.view(np.uint32) >> 16).astype("<u2").tobytes())
        else:
            file.write(values.astype("<f2" if output.type is GGMLQuantizationType.F16 else "<f4").tobytes())


def _write_ternary(checkpoint: Checkpoint, output: Output, matrix: Matrix, file: BinaryIO) -> None:
    fmt: RowFormat = row_format(int(output.type))
    head_dim = output.planned.head_dim
    factor = np.float32(1 if output.own_scale or not matrix.packed else matrix.scale)
    for rows in chunks(checkpoint, matrix, head_dim or 1):
        values = (permuted(rows, head_dim) if head_dim else rows) * factor
        values = np.ascontiguousarray(values, np.float32)
        packed: NDArray[Any] = np.empty(fmt.row_size(values.size), np.uint8)
        quantize(fmt, values, packed)
        back = np.empty_like(values)
        dequantize(fmt, packed, back)
        if not np.array_equal(back, values):
            raise ModelFileError(f"The weights of {matrix.name} do not come back as they were.")
        file.write(packed.tobytes())


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % _ALIGNMENT))


def _metadata(writer: GGUFWriter, conversion: Conversion) -> None:
    writer.add_name(conversion.name)
    writer.add_file_type(_KINDS[conversion.type_name])
    writer.add_quantization_version(2)
    for key, value in conversion.config.metadata().items():
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
        add(f"llama.{key}", value)
    v = conversion.vocabulary
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(v.pre)
    writer.add_token_list(v.tokens)
    writer.add_token_types(v.types)
    writer.add_token_merges(v.merges)
    for kind, number in v.ids.items():
        writer.add_uint32(f"tokenizer.ggml.{kind}_token_id", number)
    writer.add_add_bos_token(v.add_bos)
    if v.template:
        writer.add_chat_template(v.template)
