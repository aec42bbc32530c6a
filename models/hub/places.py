"""Where downloads are on this computer: ``OWN/owner/repo/file.gguf``, and the library's cache.

Stretch keeps what it downloads in a directory of its own, under names that a person recognises.
What another program has put into the hub's cache is found there and never fetched again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from models.hub.files import HubModel, Repo, named, usual
from models.hub.names import HubName, is_companion, is_repo, matching, part_of, problem_of_path, quant_of
from models.hub.part import Identity, journal_path, part_path, read_identity
from models.local import hub_cache
from models.splits import part_paths
from quantize.errors import HubError, ModelNotFoundError


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A download that was begun."""

    identity: Identity
    target: Path
    done: int
    """Bytes that are there."""


def target_of(own: Path, repo: str, path: str) -> Path:
    """Where a file of a repository is stored.

    Args:
        own: the program's directory of models.

    Raises:
        HubError: if the hub gave it a name that must not be used.
    """
    problem = "" if is_repo(repo) else "the name of the repository is not one"
    problem = problem or problem_of_path(path)
    if problem:
        raise HubError(f"The file {path!r} is not downloaded: {problem}.", "Choose another repository.")
    return own.joinpath(*repo.split("/"), *path.split("/"))


def is_here(own: Path, repo: str, model: HubModel) -> bool:
    """Whether all files of a model were downloaded, by their sizes."""
    try:
        return all(target_of(own, repo, part.path).stat().st_size == part.size for part in model.parts)
    except OSError:
        return False


def bytes_here(own: Path, repo: str, model: HubModel) -> int:
    """Bytes that a download of ``model`` need not fetch again."""
    total = 0
    for part in model.parts:
        with suppress(HubError):  # a name that is not used
            target = target_of(own, repo, part.path)
            for file in (part_path(target), target):
                with suppress(OSError):
                    n_bytes = file.stat().st_size
                    if file != target or n_bytes == part.size:
                        total += n_bytes
                        break
    return total


def find_here(own: Path, name: HubName, cache: Path | None = None) -> Path | None:
    """The file on this computer that ``name`` means, None if it was not downloaded."""
    folders = [own.joinpath(*name.repo.split("/"))]
    snapshots = (cache or hub_cache()) / f"models--{name.repo.replace('/', '--')}" / "snapshots"
    with suppress(OSError):
        folders += sorted(snapshots.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
    for folder in folders:
        found = _find_in(folder, name)
        if found is not None:
            return found
    return None


def _find_in(folder: Path, name: HubName) -> Path | None:
    """As ``find_here`` in a folder that holds the files of one repository."""
    if name.file:
        path = folder.joinpath(*name.file.split("/"))
        return part_paths(path)[0] if _complete(path) else None
    paths = [p for p in _files(folder) if not is_companion(str(p.relative_to(folder)))]
    labels = {quant_of(str(p.relative_to(folder))): p for p in reversed(paths)}
    if name.quant:
        return labels.get(matching(name.quant, list(labels)))
    for quant in ("Q4_K_M", "Q8_0"):
        if quant in labels:
            return labels[quant]
    return paths[0] if paths else None


def _files(folder: Path) -> list[Path]:
    """The models of a folder, each by its first part."""
    with suppress(OSError):
        return sorted(p for p in folder.rglob("*.gguf") if part_of(p.name)[1] == 1 and _complete(p))
    return []


def _complete(path: Path) -> bool:
    try:
        return all(part.is_file() for part in part_paths(path))
    except OSError:
        return False


def unfinished(own: Path) -> Iterator[Unfinished]:
    """Downloads that were begun and not completed, in the order of their names."""
    try:
        journals = sorted(own.glob("*/*/**/*.part.journal"))
    except OSError:
        return
    for journal in journals:
        target = journal.with_name(journal.name.removesuffix(".part.journal"))
        identity = read_identity(journal)
        with suppress(OSError, HubError):
            if identity is not None and target_of(own, identity.repo, identity.path) == target:
                yield Unfinished(identity, target, part_path(target).stat().st_size)


def remove(own: Path, path: Path) -> int:
    """Remove a downloaded model with all its parts, or what is there of an unfinished one.

    Returns:
        Bytes that were freed.

    Raises:
        ModelNotFoundError: if nothing is there, or it lies outside the program's own directory.
    """
    if not path.absolute().is_relative_to(own.absolute()) or ".." in path.parts:
        raise ModelNotFoundError(
            f"{path} was not downloaded by Stretch.",
            "Remove it yourself; Stretch removes only its own downloads.",
        )
    freed = 0
    for part in part_paths(path):
        for file in (part, part_path(part), journal_path(part)):
            try:
                n_bytes = file.stat().st_size
                file.unlink()
                freed += n_bytes
            except FileNotFoundError:
                continue
            except OSError as error:
                raise HubError(
                    f"{file} cannot be removed: {error.strerror}.", "Check its permissions."
                ) from None
    if not freed:
        raise ModelNotFoundError(f"There is no {path}.", "stretch models lists what is there.")
    _tidy(own, path.parent)
    return freed


def discard(own: Path, repo: str, model: HubModel) -> None:
    """Remove what is there of a download. A complete model stays, be it of another version."""
    whole = all(target_of(own, repo, part.path).exists() for part in model.parts)
    for part in model.parts:
        target = target_of(own, repo, part.path)
        for file in (part_path(target), journal_path(target), *(() if whole else (target,))):
            with suppress(OSError):
                file.unlink()
        _tidy(own, target.parent)


def _tidy(own: Path, folder: Path) -> None:
    """Remove folders that are empty now."""
    while folder != own and folder.is_relative_to(own):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def choose(repo: Repo, name: HubName, best: HubModel | None = None) -> HubModel:
    """The model that ``name`` means.

    Args:
        best: what suits this machine best, for a name that leaves the choice open.

    Raises:
        HubError: if there is no such model.
    """
    return named(repo, name) or best or usual(repo.models)
