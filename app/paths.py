"""Where Stretch keeps its files.

Each kind of file goes where the operating system wants it. The environment variable
``STRETCH_HOME`` puts everything below one directory instead, which is how a portable
installation works and how the tests keep away from the user's own files.

Nothing is created by asking for a path; ``private_dir`` makes a directory when it is needed.
"""

from __future__ import annotations

import os
from pathlib import Path

from quantize.errors import StoreError

_APP = "stretch"


def _place(below_home: str, kind: str) -> Path:
    home = os.environ.get("STRETCH_HOME", "")
    if home:
        return Path(home).expanduser().absolute() / below_home
    import platformdirs  # takes 20 ms, and only those who need a path should pay

    return Path(getattr(platformdirs, f"user_{kind}_dir")(_APP, appauthor=False))


def data_dir() -> Path:
    """Conversations and what belongs to them. Worth a backup."""
    return _place("data", "data")


def config_dir() -> Path:
    """Settings that a person edits."""
    return _place("config", "config")


def cache_dir() -> Path:
    """What can be deleted at any time and is made again."""
    return _place("cache", "cache")


def log_dir() -> Path:
    """Logs of the engine's processes."""
    return _place("logs", "log")


def database_path() -> Path:
    """The database of conversations."""
    return data_dir() / "conversations.sqlite3"


def settings_path() -> Path:
    """The settings, a TOML file."""
    return config_dir() / "settings.toml"


def models_dir() -> Path:
    """Models that Stretch downloaded or made."""
    return data_dir() / "models"


def parked_dir() -> Path:
    """Caches of conversations that were put away. What is missing is read again."""
    return cache_dir() / "parked"


def calibrations_dir() -> Path:
    """What was calibrated for each model."""
    return data_dir() / "calibrations"


def log_path() -> Path:
    """What llama.cpp and the engine's process say; older parts have a number behind the name."""
    return log_dir() / "engine.log"


def private_dir(path: Path) -> Path:
    """Make ``path`` and its parents if they are missing; a new one is readable by its owner only.

    Raises:
        StoreError: if it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The directory {path} cannot be made: {error.strerror or error}.",
            "Check its permissions, or set STRETCH_HOME to a directory of your own.",
        ) from error
    return path
