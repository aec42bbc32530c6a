"""What the weights of a model take in memory: the mapped file, and llama.cpp's second copy of some.

llama.cpp maps the file, faults it in at once, and unmaps what lies before the first and behind the
last tensor that it uses in place. Matrices of some types go into a buffer with a layout that suits
the processor better ("CPU_REPACK"); their place in the mapping stays if it is between others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.cpu import CpuFeatures
from models.header import Header, Tensor
from models.tensor_types import TENSOR_TYPES

_NOT_MULTIPLIED = re.compile(
    r"^(token_embd|token_embd_norm|per_layer_token_embd|position_embd|token_types|rope_freqs|rope_factors_\w+)\."
    r"|\.bias$|norm\.|\.ssm_(a|d|conv1d\w*)\b|\.shortconv\.conv\.|altup_correct_scale|exp_probs_b|attn_sinks|time_mix_"
)
"""Tensors that are looked up, added or convolved: only factors of matrix products are repacked."""

_LAZY_BYTES = 4 << 30
"""Embeddings per layer larger than this are read on demand (``LLAMA_LAZY_MODE_AUTO``)."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of the weights in memory."""

    mapped: int
    repacked: int
    unknown: tuple[str, ...] = ()


def weigh(header: Header, cpu: CpuFeatures, *, repack: bool = True) -> Weights:
    """What the weights of one file take.

    Args:
        repack: whether llama.cpp may make the second copy (``use_extra_bufts``).
    """
    repack = repack and not cpu.amx  # see quantize/amx.py
    tied = "output.weight" not in header.by_name
    copied, in_place = 0, []
    for tensor in header.tensors:
        copies = repack and _repacks(tensor, cpu)
        if copies and _NOT_MULTIPLIED.search(tensor.name):
            copies = tied and tensor.name == "token_embd.weight"  # a copy for the output layer only
            in_place.append(tensor)
        elif not copies:
            in_place.append(tensor)
        copied += tensor.n_bytes if copies else 0
    unknown = []
    lazy = sum(t.n_bytes for t in in_place if "per_layer_token_embd" in t.name and t.n_bytes > _LAZY_BYTES)
    if lazy:
        unknown.append("Part of the embeddings is read on demand and not counted.")
    ends: dict[int, tuple[int, int]] = {}  # of what is used in place, in each file
    for t in in_place:
        first, last = ends.get(t.part, (t.offset, 0))
        ends[t.part] = min(first, t.offset), max(last, t.offset + t.n_bytes)
    mapped = sum(last - first for first, last in ends.values())
    return Weights(max(mapped - lazy, 0), copied, tuple(unknown))


def _repacks(tensor: Tensor, cpu: CpuFeatures) -> bool:
    """Whether ggml has a faster layout for a tensor of this type and shape on this processor.

    The rules of ``ggml_repack_get_optimal_repack_type`` and of the buffer type's ``supports_op``:
    matrices, or stacks of matrices of experts.
    """
    kind = TENSOR_TYPES.get(tensor.type_id)
    shape = tuple(n for n in tensor.shape if n != 1) if len(tensor.shape) > 2 else tensor.shape
    if kind is None or len(shape) < 2 or len(shape) > 3 or (len(shape) == 3 and "_exps" not in tensor.name):
        return False
    dot, mm = cpu.neon and cpu.dotprod, cpu.neon and cpu.int8mm
    eight: dict[str, bool] = {
        "q4_0": cpu.avx2,
        "q4_k": cpu.avx2 or dot or mm,
        "q2_k": cpu.avx512,
        "q5_k": dot or mm,
        "q6_k": dot or mm,
        "iq4_nl": cpu.avx2,
        "mxfp4": cpu.avx2,
    }
    four: dict[str, bool] = {
        "q4_0": dot or mm,
        "iq4_nl": dot,
        "mxfp4": dot,
        "q8_0": dot or mm,
        "q1_0": dot or mm,
    }
    rows = shape[1]
    return (eight.get(kind.name, False) and rows % 8 == 0) or (four.get(kind.name, False) and rows % 4 == 0)
