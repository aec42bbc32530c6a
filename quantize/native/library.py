"""The native library: found, loaded next to llama-cpp-python's, and given ggml's functions.

Nothing here opens a copy of ggml: its functions are looked up in the handle that
llama-cpp-python holds (``quantize.llama.LIB``) and their addresses are handed over.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_NAME = "libstretch_native.so"
DISTRIBUTION = "stretch-chat"


@dataclass(frozen=True, slots=True)
class NativeStatus:
    """Whether the native library is in use, and if not, why."""

    ok: bool
    reason: str
    """Empty if ``ok``; else one sentence for the user."""
    path: Path | None
    """The library's file."""
    isa: str
    """Instruction set in use: portable, neon, avx2 or avx512; empty if not loaded."""


NOT_BUILT = (
    "Stretch's native library is not there: it is compiled when Stretch is installed,"
    " which needs a C compiler (and Linux or macOS)."
)


def find() -> Path | None:
    """The library's file: ``STRETCH_NATIVE``, else beside this module, else where it was installed."""
    named = os.environ.get("STRETCH_NATIVE")
    if named:
        return Path(named) if Path(named).is_file() else None
    beside = Path(__file__).with_name(FILE_NAME)
    if beside.is_file():
        return beside
    try:  # an editable install keeps compiled files in site-packages and the Python files here
        installed = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(installed.locate_file(f"quantize/native/{FILE_NAME}")))
    return path if path.is_file() else None


@functools.cache
def load() -> tuple[Any, NativeStatus]:
    """The loaded library (None if it cannot be used) and its status. Loads llama.cpp."""
    path = find()
    if path is None:
        return None, NativeStatus(False, NOT_BUILT, None, "")
    from quantize.llama import LIB

    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return None, NativeStatus(False, f"Stretch's native library could not be loaded: {error}.", path, "")
    _declare(library)
    names = _strings(library.st_ggml_symbols())
    missing = [name for name in names if not hasattr(LIB, name)]
    if missing:
        return None, NativeStatus(
            False,
            f"This build of llama.cpp has no {missing[0]}, which Stretch's native library needs.",
            path,
            "",
        )
    symbols = (ctypes.c_void_p * len(names))(
        *(ctypes.cast(getattr(LIB, name), ctypes.c_void_p).value for name in names)
    )
    problem = library.st_init(symbols)
    isa = library.st_isa_name(library.st_isa_active()).decode()
    if problem is not None:
        return None, NativeStatus(False, problem.decode(), path, isa)
    return library, NativeStatus(True, "", path, isa)


def _declare(library: Any) -> None:
    library.st_ggml_symbols.restype = ctypes.POINTER(ctypes.c_char_p)
    library.st_init.argtypes = [ctypes.POINTER(ctypes.c_void_p)]
    library.st_init.restype = ctypes.c_char_p
    library.st_isa_name.argtypes = [ctypes.c_int]
    library.st_isa_name.restype = ctypes.c_char_p
    library.st_register_types.restype = ctypes.c_char_p
    library.st_types_registered.restype = ctypes.c_bool
    for function in ("st_isa_detected", "st_isa_active", "st_isa_use"):
        getattr(library, function).restype = ctypes.c_int
    library.st_isa_use.argtypes = [ctypes.c_int]


def _strings(array: Any) -> list[str]:
    names: list[str] = []
    while array[len(names)] is not None:
        names.append(array[len(names)].decode())
    return names
