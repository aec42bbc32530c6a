"""Facts that only the native libraries know. Runs in a process of its own, which may die.

``python -P -c BOOT ROOT`` prints one line of JSON. The parent's side is ``ask``.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import app
from quantize.errors import EngineError

_ROOT = str(Path(app.__file__).resolve().parents[1])
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from app.doctor.probe import main; main()"
_TIMEOUT_S = 120


def ask() -> dict[str, Any]:
    """Start the process and return what it found.

    Raises:
        EngineError: if it died or did not answer.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _BOOT, _ROOT],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"The native libraries did not load within {_TIMEOUT_S} s.") from error
    except OSError as error:
        raise EngineError(f"No process could be started: {error.strerror}.") from error
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        how = f"code {done.returncode}"
        if done.returncode < 0:
            how = signal.Signals(-done.returncode).name
        raise EngineError(f"Loading the native libraries ended with {how}: {words[0]}.")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def cpu_features(system_info: str) -> list[str]:
    """The names that llama.cpp's system information marks with 1."""
    return re.findall(r"(\w+) = 1\b", system_info)


def main() -> None:
    """The child: load everything and print what there is."""
    import llama_cpp.llama_cpp as library

    from app.engine.version import engine_version
    from quantize import ggml, native
    from quantize.cache_types import CACHE_TYPES
    from quantize.errors import CacheTypeError
    from quantize.native import attention

    status = native.register_types()
    kernel = attention.enable()  # compares itself with llama.cpp's
    types: dict[str, str] = {}
    for name, cache_type in CACHE_TYPES.items():
        if cache_type.native and not status.ok:
            continue
        try:
            ggml.check_table([cache_type])
            types[name] = ""
        except CacheTypeError as error:
            types[name] = error.message
    library.llama_print_system_info.restype = ctypes.c_char_p
    found = {
        "engine": engine_version(),
        "gguf": version("gguf"),
        "cpu_features": cpu_features(library.llama_print_system_info().decode("ascii", "replace")),
        "gpu": bool(library.llama_supports_gpu_offload()),
        "types": types,
        "native": {
            "ok": status.ok,
            "reason": status.reason,
            "path": str(status.path) if status.path else "",
            "isa": status.isa,
        },
        "attention": {"ok": kernel.ok, "reason": kernel.reason, "isa": kernel.isa, "apart": kernel.apart},
    }
    print(json.dumps(found), flush=True)
