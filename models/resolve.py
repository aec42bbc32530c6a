"""From what a person types to the file of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from quantize.errors import ModelFileError, ModelNotFoundError, UsageError

if TYPE_CHECKING:
    from models.hub.names import HubName

BUILTIN: dict[str, str] = {
    "builtin": "stretch-36m-q8_0.gguf",
    "builtin-ternary": "stretch-36m-ternary-tq2_0.gguf",
}
"""The models in the package, by name."""

BUILTIN_WEIGHTS = {
    "builtin": "8-bit weights",
    "builtin-ternary": "ternary weights: writes 1.5 times as fast",
}
"""What their weights are; the speed is that of ``python -m benchmarks.weights`` (docs/weights.md)."""

_DIRECTORY = Path(__file__).parent / "builtin"


def resolve(name: str, own: Path | None = None) -> Path:
    """The file of the model called ``name``: a built-in name, a path (``~`` stands for home), or the
    name on the hub of a model that was downloaded.

    Nothing is read; the file may still turn out to be damaged.

    Args:
        own: the program's directory of downloaded models.

    Raises:
        ModelNotFoundError: if there is no such model.
        ModelFileError: if it is a directory.
    """
    if name in BUILTIN:
        path = _DIRECTORY / BUILTIN[name]
        if not path.is_file():
            raise ModelNotFoundError(
                f"The built-in model {name} is missing from the installation.", "Install Stretch again."
            )
        return path
    try:
        path = Path(name).expanduser()
        if path.is_dir():
            raise ModelFileError(f"{name} is a directory.", "Give the path of a .gguf file.")
        if path.exists():
            return path.absolute()
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, an unknown user
        pass
    on_hub = own is not None and _on_hub(name)
    if own is not None and on_hub:
        from models.hub.places import find_here

        here = find_here(own, on_hub)
        if here is not None:
            return here
        raise ModelNotFoundError(
            f"{name} is not on this computer.", f"stretch pull {name} downloads it, if the hub has it."
        )
    raise ModelNotFoundError(
        f"There is no model {name!r}.",
        f"Give the path of a .gguf file or one of: {', '.join(BUILTIN)}.",
    )


def _on_hub(name: str) -> HubName | None:
    from models.hub.names import parse_name

    try:
        return parse_name(name)
    except UsageError:
        return None


def display_name(path: Path) -> str:
    """A short name for a model's file: the built-in name, or the file's without its ending."""
    for name, file in BUILTIN.items():
        if path == _DIRECTORY / file:
            return name
    return path.stem
