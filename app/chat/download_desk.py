"""The downloads of the chat: they go on while the picker is closed, and say when they are done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from app.chat.format import percent
from app.chat.messages import Action, DownloadsChanged, Notice
from app.plain_text import one_line
from models.hub.downloads import Downloads, Job
from models.hub.files import HubModel, Repo

if TYPE_CHECKING:
    from models.hub.client import Hub
    from models.hub.transfer import Patience


class DownloadDesk:
    """Made when it is first needed; nothing is asked of the network before a person wants something.

    Args:
        own: the program's directory of models.
        post: hands a message to the interface, from any thread.
        make_hub: makes the client; it is called in a thread.
    """

    def __init__(
        self,
        own: Path,
        post: Callable[[Message], object],
        make_hub: Callable[[], Hub] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.own = own
        self._post = post
        self._make_hub = make_hub
        self._hub: Hub | None = None
        self._lock = threading.Lock()
        self._told: set[tuple[int, str]] = set()
        self._queue = Downloads(self.hub, own, self._changed, patience)
        self._queue.find_unfinished()

    def hub(self) -> Hub:
        """The client. It is slow the first time: call this in a thread."""
        with self._lock:
            if self._hub is None:
                if self._make_hub is None:
                    from models.hub.client import Hub

                    self._make_hub = Hub
                self._hub = self._make_hub()
            return self._hub

    @property
    def jobs(self) -> list[Job]:
        """What is on its way, waits, rests or has failed."""
        return [job for job in self._queue.jobs if job.state not in ("done", "cancelled")]

    def job(self, name: str) -> Job | None:
        """The job of ``owner/repo/file.gguf``."""
        return next((job for job in self.jobs if job.name == name), None)

    def want(self, repo: Repo, model: HubModel) -> Job:
        """Download a model that was listed."""
        return self._queue.add(repo.name, repo.revision, model)

    def want_file(self, repo: str, path: str, n_bytes: int) -> Job:
        """Download a file of the catalog."""
        return self._queue.add_file(repo, path, n_bytes)

    def toggle(self, job: Job) -> None:
        """Pause what runs or waits, let go on what rests."""
        if job.state in ("paused", "failed"):
            self._queue.resume(job)
        else:
            self._queue.pause(job)

    def cancel(self, job: Job) -> None:
        """End a download and remove what is there of it."""
        self._queue.cancel(job)

    def close(self) -> None:
        """Pause everything; what is there is kept."""
        self._queue.close()

    def _changed(self, job: Job) -> None:
        """Called from the thread of the download."""
        if job.state in ("done", "failed") and (id(job.control), job.state) not in self._told:
            self._told.add((id(job.control), job.state))
            self._post(_notice(job))
        self._post(DownloadsChanged(done=job.state == "done"))


def _notice(job: Job) -> Notice:
    name = one_line(job.model.path.rsplit("/", 1)[-1], 80)
    if job.state == "done":
        return Notice(f"{name} is here.", "good", (Action("load it", f"/model {job.target}"),))
    broke_off = f" broke off at {percent(job.done, job.total)}, which is kept" if job.done else ""
    again = Action("go on" if job.done else "try again", f"/model {job.name}")
    text = f"{name}{broke_off}: {one_line(str(job.error))}"
    return Notice(text, "warning", (again, Action("downloads", "/model")))
