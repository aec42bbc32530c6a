"""Rows of the model picker that come from elsewhere: the catalog, the hub, and what is on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from app.chat.download_desk import DownloadDesk
from app.chat.format import DASH, count, duration, percent, size
from app.chat.screens.model_rows import ModelRow, typed_path
from models.catalog import catalog
from models.hub.downloads import Job
from models.hub.names import parse_name
from models.hub.places import target_of
from models.local import judge
from quantize.errors import UsageError

LEAST_QUERY = 2
"""Letters from which on the hub is asked."""


class CatalogSource:
    """Models worth trying that are not here yet, with a verdict from the facts of the catalog.

    Args:
        budget: bytes that a model may take, asked for again for every verdict.
    """

    heading = "Worth trying"
    searches = False
    asks_hub = False

    def __init__(self, desk: DownloadDesk, budget: Callable[[], int]) -> None:
        self._desk = desk
        self._budget = budget

    def rows(self, query: str) -> Iterator[ModelRow]:
        if typed_path(query) is not None:
            return
        for model in catalog():
            if target_of(self._desk.own, model.repo, model.file).exists():
                continue
            verdict = judge(model.header(), self._budget())
            yield ModelRow(
                model.address,
                model.name,
                "",
                model.n_bytes,
                model.license,
                verdict.sentence if verdict.runnable else "",
                verdict.runnable,
                "" if verdict.runnable else f"{verdict.sentence} {verdict.instead}".rstrip(),
                about=model.sentence,
            )

    def choose(self, row: ModelRow) -> str | None:
        model = next(m for m in catalog() if m.address == row.name)
        self._desk.want_file(model.repo, model.file, model.n_bytes)
        return None


class HubSource:
    """What the hub finds; choosing a repository shows what is in it."""

    heading = "On the hub"
    searches = True
    asks_hub = True

    def __init__(self, desk: DownloadDesk) -> None:
        self._desk = desk

    def rows(self, query: str) -> Iterator[ModelRow]:
        query = query.strip()
        if len(query) < LEAST_QUERY or typed_path(query) is not None:
            return
        named = _repo_of(query)
        if named:
            yield ModelRow(
                f"hf:{named}",
                named,
                "the repository of this name",
                verdict="choose it to look inside",
                repo=named,
            )
            return
        for found in self._desk.hub().search(query, 30):
            facts = [f"{found.n_parameters / 1e9:.1f}B weights"] if found.n_parameters else []
            facts += [f"{count(found.downloads)} downloads"]
            if found.gated:
                facts.append("gated")
            yield ModelRow(
                f"hf:{found.repo}",
                found.repo,
                found.architecture,
                0,
                found.license,
                ", ".join(facts),
                repo=found.repo,
            )

    def choose(self, row: ModelRow) -> str | None:
        return None


def _repo_of(query: str) -> str:
    """The repository that a query names with certainty: behind ``hf:`` or as an address."""
    if not query.lower().startswith(("hf:", "http://", "https://", "hf.co/", "huggingface.co/")):
        return ""
    try:
        name = parse_name(query)
    except UsageError:
        return ""
    return name.repo if name else ""


def job_row(job: Job) -> ModelRow:
    """What is to be seen of a download."""
    row = ModelRow(
        job.name,
        job.model.path.rsplit("/", 1)[-1].removesuffix(".gguf"),
        job.repo,
        job.total,
        progress=min(job.fraction, 1.0),
        repo="",
        job=True,
    )
    if job.state == "failed":
        kept = f"{percent(job.done, job.total)} is kept. " if job.done else ""
        return replace(row, progress=None, reason=f"{kept}{job.error}")
    return replace(row, status=_status(job))


def _status(job: Job) -> str:
    match job.state:
        case "queued":
            return "waits for its turn"
        case "paused":
            return f"paused at {size(job.done)}"
        case "connecting":
            return "connecting"
        case "checking":
            return "checking what is here"
        case "waiting":
            return f"broke off, again in {duration(job.pause_s)}"
    left = duration(job.eta)
    return f"{size(job.speed)}/s" + (f", {left} left" if left != DASH else "") if job.speed else ""
