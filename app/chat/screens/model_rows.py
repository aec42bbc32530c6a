"""Where the model picker gets its rows from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from models.local import LocalModel, find_in, find_local, judge_file


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model that can be chosen."""

    name: str
    """What ``models.resolve`` takes; it also tells rows apart."""
    title: str
    """The name for the eye."""
    where: str
    """Where it is, in a few words."""
    size: int = 0
    """Bytes, 0 if not known."""
    license: str = ""
    verdict: str = ""
    """Whether it fits and how far its context reaches; empty while that is being found out."""
    runnable: bool = True
    reason: str = ""
    """Why it cannot run, or empty."""
    progress: float | None = None
    """Share of a download that is done, None if there is no download."""
    status: str = ""
    """What the download does now, in a few words."""
    job: bool = False
    """Whether it is a download: choosing it pauses it or lets it go on."""
    about: str = ""
    """What to expect of it, in one sentence."""
    repo: str = ""
    """A repository of the hub to look into, or empty."""


class ModelSource(Protocol):
    """A group of the picker's list."""

    @property
    def heading(self) -> str:
        """Stands above the group."""

    @property
    def searches(self) -> bool:
        """Whether ``rows`` selects by the query itself; otherwise the picker does by name."""

    @property
    def asks_hub(self) -> bool:
        """Whether it uses the network: it is then asked only when the typing has paused."""

    def rows(self, query: str) -> Iterator[ModelRow]:
        """The rows of the group, as they become known.

        Runs in a thread of its own and is closed early when the query changes. A row with the
        name of an earlier one replaces it: first what is known at once, then the verdict. Raises a
        ``StretchError`` if the group cannot be filled; it is shown in its place.
        """
        ...

    def choose(self, row: ModelRow) -> str | None:
        """The person wants this model. Returns the name to load, None if something else must happen first."""
        ...


class LocalSource:
    """The models on this computer, and any file or folder whose path is typed.

    Args:
        budget: bytes that a model may take, asked for again for every verdict.
    """

    heading = "On this computer"
    searches = True
    asks_hub = False

    def __init__(self, own: Path, folders: Iterable[str], budget: Callable[[], int]) -> None:
        self._own = own
        self._folders = tuple(folders)
        self._budget = budget

    def rows(self, query: str) -> Iterator[ModelRow]:
        typed = typed_path(query)
        if typed is not None:
            found = list(_typed(typed))
        else:
            words = query.lower().split()
            everything = find_local(self._own, self._folders)
            found = [m for m in everything if all(w in f"{m.title} {m.place}".lower() for w in words)]
        for model in found:
            yield _row(model)
        for model in found:
            verdict = judge_file(model.path, self._budget())
            yield replace(
                _row(model),
                license=verdict.license,
                verdict=verdict.sentence if verdict.runnable else "",
                runnable=verdict.runnable,
                reason="" if verdict.runnable else f"{verdict.sentence} {verdict.instead}".rstrip(),
            )

    def choose(self, row: ModelRow) -> str | None:
        return row.name


def typed_path(query: str) -> Path | None:
    """The path that a query means, None if it is words to search for."""
    query = query.strip()
    if not query.startswith(("/", "~", "./", "../")) and not query.lower().endswith(".gguf"):
        return None
    try:
        return Path(query).expanduser()
    except RuntimeError:  # a user that does not exist
        return None


def _typed(path: Path) -> Iterator[LocalModel]:
    """The file at a path, or the models in the folder that it names so far."""
    try:
        if path.is_file():
            yield LocalModel(str(path), path.name, "the file at this path", path, path.stat().st_size)
            return
        folder, beginning = (path, "") if path.is_dir() else (path.parent, path.name.lower())
        if folder.is_dir():
            yield from (m for m in find_in(folder, str(folder)) if m.path.name.lower().startswith(beginning))
    except OSError:
        return


def _row(model: LocalModel) -> ModelRow:
    return ModelRow(model.name, model.title, model.place, model.n_bytes)
