"""What the weights of a file can be quantized to: llama.cpp's file types.

A file type names the type of most weights; llama.cpp gives sensitive ones more bits. The ids are
those of ``enum llama_ftype``, other than the ids of tensor types.
"""

from __future__ import annotations

from dataclasses import dataclass

from quantize.errors import UsageError


@dataclass(frozen=True, slots=True)
class FileType:
    """One target of the quantizer."""

    name: str
    id: int
    """``enum llama_ftype``."""
    tensor_type: str
    """Of most weights."""
    summary: str
    levels: int = 0
    """3 for types that hold ternary weights only, 2 for 1-bit ones, 0 for all others."""


def _k(name: str, id: int, tensor_type: str, summary: str) -> FileType:
    return FileType(name, id, tensor_type, summary)


def _iq(name: str, id: int, tensor_type: str) -> FileType:
    return FileType(name, id, tensor_type, "Codebooks, slow on a processor.")


_TABLE = (
    _k("f32", 0, "f32", "Full precision."),
    _k("f16", 1, "f16", "Half precision: the usual source."),
    _k("bf16", 32, "bf16", "Half precision with a wider range."),
    _k("q8_0", 7, "q8_0", "8.5 bits: no loss that anybody notices."),
    _k("q6_k", 18, "q6_k", "6.6 bits."),
    _k("q5_k_m", 17, "q5_k", "5.7 bits."),
    _k("q5_k_s", 16, "q5_k", "5.5 bits."),
    _k("q5_1", 9, "q5_1", "6 bits, old."),
    _k("q5_0", 8, "q5_0", "5.5 bits, old."),
    _k("q4_k_m", 15, "q4_k", "4.9 bits: the usual choice."),
    _k("q4_k_s", 14, "q4_k", "4.6 bits."),
    _k("q4_1", 3, "q4_1", "5 bits, old."),
    _k("q4_0", 2, "q4_0", "4.5 bits, fast on every processor."),
    _k("iq4_nl", 25, "iq4_nl", "4.5 bits on uneven levels."),
    _k("iq4_xs", 30, "iq4_xs", "4.3 bits on uneven levels."),
    _k("mxfp4", 38, "mxfp4", "4.25 bits for the experts of mixture models, 8 bits for the rest."),
    _k("q3_k_l", 13, "q3_k", "4.3 bits."),
    _k("q3_k_m", 12, "q3_k", "3.9 bits."),
    _k("q3_k_s", 11, "q3_k", "3.5 bits."),
    _k("q2_k", 10, "q2_k", "2.6 to 3 bits: large loss."),
    _k("q2_k_s", 21, "q2_k", "2.6 bits: large loss."),
    _iq("iq3_m", 27, "iq3_s"),
    _iq("iq3_s", 26, "iq3_s"),
    _iq("iq3_xs", 22, "iq3_s"),
    _iq("iq3_xxs", 23, "iq3_xxs"),
    _iq("iq2_m", 29, "iq2_s"),
    _iq("iq2_s", 28, "iq2_xs"),
    _iq("iq2_xs", 20, "iq2_xs"),
    _iq("iq2_xxs", 19, "iq2_xxs"),
    _iq("iq1_m", 31, "iq1_m"),
    _iq("iq1_s", 24, "iq1_s"),
    FileType("tq2_0", 37, "tq2_0", "2.06 bits, for weights that were trained ternary.", levels=3),
    FileType("tq1_0", 36, "tq1_0", "1.69 bits, for weights that were trained ternary.", levels=3),
    FileType("q2_0", 41, "q2_0", "2.25 bits, for weights that were trained ternary.", levels=3),
    FileType("q1_0", 40, "q1_0", "1.125 bits, for weights that were trained with one bit.", levels=2),
)

FILE_TYPES: dict[str, FileType] = {t.name: t for t in _TABLE}
"""Every file type by name."""


def file_type(name: str) -> FileType:
    """The file type called ``name`` (case does not matter, nor whether ``-`` or ``_`` is written).

    Raises:
        UsageError: if there is none; the hint lists the names.
    """
    found = FILE_TYPES.get(name.strip().lower().replace("-", "_"))
    if found is None:
        raise UsageError(
            f"Weights cannot be quantized to {name.strip()!r}.",
            "Choose one of: " + ", ".join(FILE_TYPES) + ".",
        )
    return found
