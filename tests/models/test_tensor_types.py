"""The table of tensor types is ggml's."""

from __future__ import annotations

import ctypes

from models.tensor_types import FOREIGN_TYPES, TENSOR_TYPES, type_name
from quantize.cache_types import CACHE_TYPES
from quantize.llama import LIB

N_TYPES = 43


def test_sizes_and_names_are_those_of_the_library() -> None:
    LIB.ggml_type_size.restype = ctypes.c_size_t
    LIB.ggml_blck_size.restype = ctypes.c_int64
    LIB.ggml_type_name.restype = ctypes.c_char_p
    for i in range(N_TYPES):
        ours = TENSOR_TYPES.get(i)
        if ours is not None:
            assert (LIB.ggml_blck_size(i), LIB.ggml_type_size(i)) == (ours.block_size, ours.type_size)
            assert LIB.ggml_type_name(i).decode().lower() == ours.name
        elif LIB.ggml_type_name(i).decode() not in (t.name for t in CACHE_TYPES.values()):
            # Stretch's own library may have filled the entries of removed types.
            assert i in FOREIGN_TYPES
    assert max(TENSOR_TYPES) < N_TYPES


def test_names_for_people() -> None:
    assert type_name(8) == "q8_0"
    assert "i2_s" in type_name(36)
    assert "fork" in type_name(77)
