"""Models in one file or in several parts: ``NAME-00001-of-00003.gguf`` and so on.

The first part holds the metadata, and llama.cpp finds the others beside it by their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from models.header import Header, Tensor, read_header
from quantize.errors import ModelFileError

MAX_PARTS = 1000

PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
"""The end of the name of a part: its number and how many there are."""


def part_paths(path: Path) -> list[Path]:
    """The paths of all parts of the model that ``path`` is a part of; ``[path]`` if it is whole."""
    match = PART.search(path.name)
    if match is None or not 1 <= int(match[2]) <= MAX_PARTS:
        return [path]
    stem = path.name[: match.start()]
    return [path.with_name(f"{stem}-{i:05}-of-{match[2]}.gguf") for i in range(1, int(match[2]) + 1)]


def read_model(path: Path | str) -> Header:
    """The header of a model with the tensors of all its parts.

    Raises:
        ModelFileError: if the file or one of its parts is missing, damaged or not the first.
    """
    path = Path(path)
    header = read_header(path)
    if header.split[1] == 1:
        return header
    paths = part_paths(path)
    return join_parts(header, [p.name for p in paths], (_read_part(paths, i) for i in range(1, len(paths))))


def join_parts(first: Header, names: Sequence[str], others: Iterable[Header]) -> Header:
    """The header of a model from those of its parts, with the tensors of all.

    Args:
        first: of the file that was asked for.
        names: of the files of all parts.
        others: the headers of the second part and so on, read when they are needed.

    Raises:
        ModelFileError: if ``first`` is not the first part, or the parts do not belong together.
    """
    number, count = first.split
    if count == 1:
        return first
    if number:
        raise ModelFileError(
            f"{first.name} is part {number + 1} of {count}.", f"Choose the first part, {names[0]}."
        )
    if len(names) != count:
        raise ModelFileError(
            f"{first.name} is the first of {count} parts, but its name does not say so.",
            f"Rename the parts to NAME-00001-of-{count:05}.gguf and so on.",
        )
    tensors: list[Tensor] = []
    n_bytes = 0
    for i, part in enumerate(chain((first,), others)):
        if part.split != (i, count):
            raise ModelFileError(f"{names[i]} is not part {i + 1} of {first.name}.", "Download it again.")
        tensors += (replace(t, part=i) for t in part.tensors)
        n_bytes += part.file_bytes
    by_name = {t.name: t for t in tensors}
    if len(by_name) != len(tensors):
        raise ModelFileError(f"Two parts of {first.name} hold the same tensor.", "Download it again.")
    return replace(first, tensors=tuple(tensors), file_bytes=n_bytes, by_name=by_name, n_parts=count)


def _read_part(paths: Sequence[Path], i: int) -> Header:
    if not paths[i].exists():
        raise ModelFileError(f"Part {i + 1} of {len(paths)} is missing: {paths[i].name}.", "Download it.")
    return read_header(paths[i])
