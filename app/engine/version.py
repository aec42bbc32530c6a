"""Which llama.cpp this is."""

from __future__ import annotations

import ctypes
from importlib.metadata import version

from quantize.llama import LIB


def engine_version() -> str:
    """Versions of llama-cpp-python and ggml, for example ``llama-cpp-python 0.3.36, ggml 0.25.3``."""
    text = f"llama-cpp-python {version('llama-cpp-python')}"
    function = getattr(LIB, "ggml_version", None)
    if function is not None:
        function.restype = ctypes.c_char_p
        text += f", ggml {function().decode('ascii', 'replace')}"
    return text
