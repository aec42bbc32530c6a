"""The types a tensor in a GGUF file can have: ggml 0.25.3's table, and ids that others use.

Pure data, so that the planner needs no native library. ``tests/models/test_tensor_types.py``
compares it with the library.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorType:
    """One entry of ggml's type table."""

    id: int
    name: str
    block_size: int
    """Values per block."""
    type_size: int
    """Bytes per block."""


_TABLE = (
    TensorType(0, "f32", 1, 4),
    TensorType(1, "f16", 1, 2),
    TensorType(2, "q4_0", 32, 18),
    TensorType(3, "q4_1", 32, 20),
    TensorType(6, "q5_0", 32, 22),
    TensorType(7, "q5_1", 32, 24),
    TensorType(8, "q8_0", 32, 34),
    TensorType(9, "q8_1", 32, 36),
    TensorType(10, "q2_k", 256, 84),
    TensorType(11, "q3_k", 256, 110),
    TensorType(12, "q4_k", 256, 144),
    TensorType(13, "q5_k", 256, 176),
    TensorType(14, "q6_k", 256, 210),
    TensorType(15, "q8_k", 256, 292),
    TensorType(16, "iq2_xxs", 256, 66),
    TensorType(17, "iq2_xs", 256, 74),
    TensorType(18, "iq3_xxs", 256, 98),
    TensorType(19, "iq1_s", 256, 50),
    TensorType(20, "iq4_nl", 32, 18),
    TensorType(21, "iq3_s", 256, 110),
    TensorType(22, "iq2_s", 256, 82),
    TensorType(23, "iq4_xs", 256, 136),
    TensorType(24, "i8", 1, 1),
    TensorType(25, "i16", 1, 2),
    TensorType(26, "i32", 1, 4),
    TensorType(27, "i64", 1, 8),
    TensorType(28, "f64", 1, 8),
    TensorType(29, "iq1_m", 256, 56),
    TensorType(30, "bf16", 1, 2),
    TensorType(34, "tq1_0", 256, 54),
    TensorType(35, "tq2_0", 256, 66),
    TensorType(39, "mxfp4", 32, 17),
    TensorType(40, "nvfp4", 64, 36),
    TensorType(41, "q1_0", 128, 18),
    TensorType(42, "q2_0", 64, 18),
)

TENSOR_TYPES: dict[int, TensorType] = {t.id: t for t in _TABLE}
"""Every type that this engine reads, by id."""

FOREIGN_TYPES: dict[int, str] = {
    4: "q4_2 (removed from llama.cpp in 2023)",
    5: "q4_3 (removed from llama.cpp in 2023)",
    31: "q4_0_4_4 (removed from llama.cpp, q4_0 replaced it)",
    32: "q4_0_4_8 (removed from llama.cpp, q4_0 replaced it)",
    33: "q4_0_8_8 (removed from llama.cpp, q4_0 replaced it)",
    36: "i2_s of bitnet.cpp (or iq4_nl_4_4, removed from llama.cpp)",
    37: "iq4_nl_4_8 (removed from llama.cpp) or i8_s of bitnet.cpp",
    38: "iq4_nl_8_8 (removed from llama.cpp) or tl1 of bitnet.cpp",
    142: "pq2_0 of PrismML's fork",
    143: "ptq1_0 of PrismML's fork",
}
"""What is known of ids that this engine does not read. Any other id comes from a fork."""


def type_name(type_id: int) -> str:
    """A name for people, for ids of forks too."""
    known = TENSOR_TYPES.get(type_id)
    return known.name if known else FOREIGN_TYPES.get(type_id, f"type {type_id} of a fork")
