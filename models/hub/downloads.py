"""Several downloads, one after the other, that can be paused, resumed and cancelled at any time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from models.hub.control import Control, Stopped
from models.hub.files import HubFile, HubModel
from models.hub.names import HubName, part_of, quant_of
from models.hub.part import Identity
from models.hub.places import Unfinished, bytes_here, choose, discard, target_of, unfinished
from quantize.errors import HubError, StretchError

if TYPE_CHECKING:
    from models.hub.client import Hub
    from models.hub.transfer import Patience

State = Literal[
    "queued", "checking", "connecting", "loading", "waiting", "paused", "done", "failed", "cancelled"
]

RUNNING: tuple[State, ...] = ("checking", "connecting", "loading", "waiting")
ENDED: tuple[State, ...] = ("done", "failed", "cancelled")

_TELL_EVERY = 0.1
"""Seconds between two reports of the same state."""


@dataclass(eq=False)
class Job:
    """One model on its way. Read it from any thread; only ``Downloads`` changes it."""

    repo: str
    revision: str
    model: HubModel
    target: Path
    """Of its first file."""
    state: State = "queued"
    done: int = 0
    """Bytes that are there."""
    speed: float = 0.0
    """Bytes per second."""
    pause_s: float = 0.0
    """For ``waiting``: how long until the next try."""
    error: HubError | None = None
    control: Control = field(default_factory=Control)
    thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """``owner/repo/file.gguf``"""
        return f"{self.repo}/{self.model.path}"

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return self.model.size

    @property
    def fraction(self) -> float:
        """Share that is there."""
        return self.done / self.total if self.total else 1.0

    @property
    def eta(self) -> float:
        """Seconds that are left, -1 if nobody can say."""
        return (self.total - self.done) / self.speed if self.state == "loading" and self.speed > 0 else -1.0

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it by itself and it is not paused."""
        return self.state in ENDED


class Downloads:
    """The queue. One download runs at a time: two would only share the same line.

    Args:
        hub: made when the first download starts, in its thread.
        own: the program's directory of models.
        changed: called from any thread when a job has changed, at most ten times per second for each.
    """

    def __init__(
        self,
        hub: Callable[[], Hub],
        own: Path,
        changed: Callable[[Job], None],
        patience: Patience | None = None,
    ) -> None:
        self._make_hub = hub
        self._hub: Hub | None = None
        self.own = own
        self._changed = changed
        self._patience = patience
        self._lock = threading.RLock()
        self.jobs: list[Job] = []
        """In the order in which they were wanted. Ended ones stay until they are wanted again."""

    # ------------------------------------------------------------------ wishes

    def add(self, repo: str, revision: str, model: HubModel) -> Job:
        """Want a model. One that is in the queue already goes on if it was paused or had failed.

        Raises:
            HubError: if the hub gave a file a name that must not be used.
        """
        target = target_of(self.own, repo, model.path)
        with self._lock:
            for job in self.jobs:
                if job.target == target and job.state not in ("done", "cancelled"):
                    self.resume(job)
                    return job
            self.jobs = [job for job in self.jobs if job.target != target]
            job = Job(repo, revision, model, target)
            self.jobs.append(job)
        self._changed(job)
        self._start_next()
        return job

    def add_file(self, repo: str, path: str, n_bytes: int) -> Job:
        """Want a file of which only the name is known; what belongs to it is asked for when it is its turn.

        Raises:
            HubError: if the name must not be used.
        """
        model = HubModel(path, quant_of(path), (HubFile(path, n_bytes, ""),))
        return self.add(repo, "", model)

    def find_unfinished(self) -> None:
        """Put what earlier runs have left into the queue, paused."""
        for found in _models(unfinished(self.own)):
            with self._lock:
                if all(job.target != found.target for job in self.jobs):
                    self.jobs.append(found)

    def pause(self, job: Job) -> None:
        """Let a download rest; what is there is kept."""
        with self._lock:
            if job.state not in (*RUNNING, "queued"):
                return
            job.state, job.speed = "paused", 0.0
            job.control.stop()
        self._changed(job)
        self._start_next()

    def resume(self, job: Job) -> None:
        """Let a paused or failed download go on when it is its turn."""
        with self._lock:
            if job.state not in ("paused", "failed"):
                return
            job.state, job.error = "queued", None
        self._changed(job)
        self._start_next()

    def cancel(self, job: Job) -> None:
        """End a download and remove what is there of it."""
        with self._lock:
            if job.state in ("done", "cancelled"):
                return
            job.state, job.speed = "cancelled", 0.0
            job.control.stop()
            busy = job.thread is not None and job.thread.is_alive()
        if not busy:
            self._remove(job)
        self._changed(job)
        self._start_next()

    def close(self, seconds: float = 1.0) -> None:
        """Pause everything and wait for the threads, but not for one that a server holds up."""
        for job in list(self.jobs):
            self.pause(job)
        until = time.monotonic() + seconds
        for job in self.jobs:
            if job.thread is not None:
                job.thread.join(max(0.0, until - time.monotonic()))

    # ------------------------------------------------------------------ running

    def _start_next(self) -> None:
        with self._lock:
            if any(job.state in RUNNING for job in self.jobs):
                return
            job = next((job for job in self.jobs if job.state == "queued"), None)
            if job is None:
                return
            job.state, job.control = "connecting", Control()
            job.thread = threading.Thread(
                target=self._work, args=(job, job.control, job.thread), name="download", daemon=True
            )
            job.thread.start()

    def _work(self, job: Job, control: Control, before: threading.Thread | None) -> None:
        """One run of one job; a pause and a resume make another."""
        if before is not None:
            before.join()
        error: HubError | None = None
        try:
            control.check()
            self._fetch(job, control)
        except Stopped:
            pass
        except HubError as failure:
            error = failure
        except StretchError as failure:
            error = HubError(failure.message, failure.hint)
        except OSError as failure:
            error = HubError(
                f"The download broke off: {failure.strerror or failure}.", "What is here is kept."
            )
        with self._lock:
            if job.state == "cancelled":
                self._remove(job)
            if control is job.control and not control.stopped:
                job.state, job.error, job.speed = ("failed" if error else "done"), error, 0.0
                if error:  # what arrived wrong is gone
                    job.done = bytes_here(self.own, job.repo, job.model)
        self._changed(job)
        self._start_next()

    def _fetch(self, job: Job, control: Control) -> None:
        from models.hub.transfer import Meter, Transfer

        if self._hub is None:
            self._hub = self._make_hub()
        self._complete(job, self._hub)
        meter, base, told = Meter(), 0, 0.0

        def tell(
            state: Literal["checking", "connecting", "loading", "waiting"], done: int, pause: float
        ) -> None:
            nonlocal told
            now = time.monotonic()
            with self._lock:
                control.check()
                new = state != job.state
                job.state, job.done, job.pause_s = state, base + done, pause
                if new or now - told >= _TELL_EVERY:
                    meter.mark(base + done)
                    job.speed = meter.speed if state == "loading" and not new else 0.0
            if new or now - told >= _TELL_EVERY:
                told = now
                self._changed(job)

        for file in job.model.parts:
            identity = Identity.of(job.repo, job.revision, file)
            target = target_of(self.own, job.repo, file.path)
            Transfer(self._hub, identity, target, control, tell, self._patience).run()
            base += file.size
        job.done = base

    def _complete(self, job: Job, hub: Hub) -> None:
        """Learn what the hub has under the name, or of the other parts of a split model that was begun."""
        if not job.revision or part_of(job.model.path)[2] != len(job.model.parts):
            repo = hub.repo(job.repo, job.revision or None)
            job.model, job.revision = choose(repo, HubName(job.repo, job.model.path)), repo.revision
            job.target = target_of(self.own, job.repo, job.model.path)

    def _remove(self, job: Job) -> None:
        discard(self.own, job.repo, job.model)
        job.done = 0


def _models(parts: Iterable[Unfinished]) -> list[Job]:
    """Jobs for what earlier runs have left."""
    jobs: list[Job] = []
    for found in parts:
        file = HubFile(found.identity.path, found.identity.size, found.identity.digest)
        model = HubModel(file.path, quant_of(file.path), (file,))
        jobs.append(
            Job(found.identity.repo, found.identity.revision, model, found.target, "paused", found.done)
        )
    return jobs
