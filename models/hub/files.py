"""What a repository holds: its GGUF files, put together to models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models.hub.names import HubName, is_companion, matching, part_of, problem_of_path, quant_of
from quantize.errors import HubError

_USUAL = ("Q4_K_M", "Q8_0")
"""What ``owner/repo`` means where nothing is known about the machine, as for llama.cpp's ``-hf``."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository."""

    path: str
    size: int
    digest: str
    """``sha256:`` and 64 digits for what is stored as a large file, ``git:`` and 40 for the rest."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of a repository: a file, or all the parts of one."""

    path: str
    """Of the file or of its first part."""
    quant: str
    """As its name states it, or empty."""
    parts: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository at one commit."""

    name: str
    revision: str
    """The commit: what is read and what is downloaded later is the same."""
    license: str
    downloads: int
    gated: bool
    models: tuple[HubModel, ...]
    """Without companions, the smallest first."""
    companions: tuple[HubModel, ...]
    refused: tuple[str, ...]
    """Sentences about files that are not offered."""


def put_together(files: Iterable[HubFile]) -> tuple[list[HubModel], list[HubModel], list[str]]:
    """Models, companions of models, and what cannot be used, from the list of files."""
    groups: dict[tuple[str, int], dict[int, HubFile]] = {}
    refused: list[str] = []
    for file in files:
        if not file.path.lower().endswith(".gguf"):
            continue
        problem = problem_of_path(file.path)
        if problem:
            refused.append(f"{file.path!r} is not offered: {problem}.")
            continue
        name, number, count = part_of(file.path)
        groups.setdefault((name, count), {})[number] = file
    models: list[HubModel] = []
    companions: list[HubModel] = []
    for (name, count), parts in groups.items():
        if len(parts) != count:
            refused.append(f"{name!r} is not offered: {len(parts)} of its {count} parts are there.")
            continue
        ordered = tuple(parts[i] for i in range(1, count + 1))
        model = HubModel(ordered[0].path, quant_of(ordered[0].path), ordered)
        (companions if is_companion(model.path) else models).append(model)
    return sorted(models, key=lambda m: (m.size, m.path)), sorted(companions, key=lambda m: m.path), refused


def named(repo: Repo, name: HubName) -> HubModel | None:
    """The model that ``name`` says, None if it leaves the choice open and there is one.

    Raises:
        HubError: if there is no such file or quantization.
    """
    if name.file:
        for model in (*repo.models, *repo.companions):
            if name.file in (part.path for part in model.parts):
                return model
        raise HubError(f"{repo.name} has no file {name.file}.", _there_is(repo))
    if not repo.models:
        raise HubError(
            f"{repo.name} holds no GGUF model.",
            repo.refused[0]
            if repo.refused
            else f"stretch search {repo.name.split('/')[1]} finds GGUF versions.",
        )
    if name.quant:
        label = matching(name.quant, [m.quant for m in repo.models])
        if not label:
            raise HubError(f"{repo.name} has no {name.quant}.", _there_is(repo))
        return next(m for m in repo.models if m.quant == label)
    return repo.models[0] if len(repo.models) == 1 else None


def usual(models: Sequence[HubModel]) -> HubModel:
    """What is taken where nothing is known about the machine: Q4_K_M, else Q8_0, else the first."""
    for quant in _USUAL:
        for model in models:
            if model.quant == quant:
                return model
    return models[0]


def _there_is(repo: Repo) -> str:
    """What can be had instead."""
    labels = list(dict.fromkeys(m.quant or m.path for m in repo.models))
    more = f" and {len(labels) - 12} more" if len(labels) > 12 else ""
    return f"There is {', '.join(labels[:12])}{more}." if labels else "It holds no GGUF model."
