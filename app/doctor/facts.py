"""Facts about the installation, the machine and the files, without a native library."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from app import __version__, paths

_PACKAGES = ("llama-cpp-python", "textual", "huggingface-hub", "numpy", "psutil")


def versions() -> dict[str, str]:
    """Versions of what matters, by name."""
    found = {"stretch": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """The operating system, the processor and the memory."""
    import psutil

    from app.engine.cores import processor_name
    from models.memory import memory

    ram = memory()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor_name(),
        "cores": psutil.cpu_count(logical=False) or 0,
        "threads": psutil.cpu_count() or 0,
        "memory_total": ram.total,
        "memory_available": ram.available,
        "memory_limit": ram.source,
        "swap_used": psutil.swap_memory().used,
    }


def threads() -> dict[str, str]:
    """With how many threads the models compute, by the name of the file, and the cores under an empty one."""
    from app.engine.thread_book import ThreadBook

    book = ThreadBook(paths.cache_dir() / "threads")
    found = {"": f"{book.cores.words}: {book.cores.usual} until measured"}
    for each in book.all():
        choice = each.choice(book.cores)
        kernel = "" if each.kernel == "own" else " (stock kernel)"
        found[each.model + kernel] = f"{choice.writing} write, {choice.reading} read. {choice.why}"
    return found


def places() -> dict[str, dict[str, Any]]:
    """Where the files are, what they take, and whether they can be written."""
    named = {
        "conversations": paths.database_path(),
        "settings": paths.settings_path(),
        "models": paths.models_dir(),
        "cache": paths.cache_dir(),
        "log": paths.log_path(),
    }
    return {name: _place(path) for name, path in named.items()}


def _place(path: Path) -> dict[str, Any]:
    nearest = path
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    return {
        "path": str(path),
        "exists": path.exists(),
        "bytes": path.stat().st_size if path.is_file() else 0,
        "writable": os.access(nearest, os.W_OK),
        "disk_free": shutil.disk_usage(nearest).free,
    }


def terminal() -> dict[str, Any]:
    """What is known of the terminal."""
    size = shutil.get_terminal_size()
    return {
        "TERM": os.environ.get("TERM", ""),
        "COLORTERM": os.environ.get("COLORTERM", ""),
        "size": f"{size.columns}x{size.lines}",
        "encoding": sys.stdout.encoding,
    }
