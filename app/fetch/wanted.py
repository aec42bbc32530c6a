"""From what a person typed to a model on the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantize.errors import ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.hub.files import HubModel, Repo
    from models.hub.names import HubName
    from models.hub.prospects import Prospect, Prospects


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model on the hub, and what is to be expected of it here."""

    repo: Repo
    model: HubModel
    prospect: Prospect
    all: tuple[Prospect, ...] = ()
    """Every quantization, if the choice was left open."""

    @property
    def name(self) -> str:
        """``owner/repo/file.gguf``"""
        return f"{self.repo.name}/{self.model.path}"


def hub_name(text: str) -> HubName | None:
    """The name on the hub that ``text`` is, or that of the catalog's model called so."""
    from models.catalog import catalog
    from models.hub.names import HubName, parse_name

    found = parse_name(text)
    if found is not None:
        return found
    words = _words(text)
    for model in catalog():
        if _words(model.name) == words:
            return HubName(model.repo, model.file)
    return None


def needed_hub_name(text: str) -> HubName:
    """As ``hub_name``.

    Raises:
        ModelNotFoundError: if ``text`` is no such name.
    """
    found = hub_name(text)
    if found is None:
        raise ModelNotFoundError(
            f"{text!r} names no model on the hub.",
            "Write owner/repo, owner/repo:Q4_K_M or owner/repo/file.gguf; stretch search finds them.",
        )
    return found


def look_up(
    prospects: Prospects, name: HubName, tell: Callable[[str], None], *, single: bool = False
) -> Wanted:
    """Ask the hub what ``name`` means and judge it; where the choice is open, take the best for this machine.

    Args:
        tell: hears what is being done.
        single: judge only what was chosen, by llama.cpp's rule where the choice is open.

    Raises:
        HubError: if the hub cannot say, or there is no such model.
    """
    from models.hub.files import named, usual
    from models.hub.prospects import best

    tell(f"asking about {name.repo} ...")
    repo = prospects.hub.repo(name.repo)
    model = named(repo, name)
    if model is None and single:
        model = usual(repo.models)
    if model is not None:
        tell(f"reading the header of {model.path} ...")
        return Wanted(repo, model, prospects.judge(repo, model))
    seen: list[Prospect] = []
    for prospect in prospects.judge_all(repo):
        seen.append(prospect)
        tell(f"reading headers, {len(seen)} of {len(repo.models)} ...")
    order = {m.path: i for i, m in enumerate(repo.models)}
    seen.sort(key=lambda p: order[p.model.path])
    chosen = best(seen) or next(p for p in seen if p.model == usual(repo.models))
    return Wanted(repo, chosen.model, chosen, tuple(seen))


def _words(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum() or c == ".")
