"""A download on a plain terminal: one line of progress, and Ctrl+C keeps what is there."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from app import paths

if TYPE_CHECKING:
    from app.lab.status_line import StatusLine
    from models.hub.client import Hub
    from models.hub.downloads import Job
    from models.hub.files import HubModel, Repo


def download(hub: Hub, repo: Repo, model: HubModel, line: StatusLine) -> Path:
    """Download a model and show how far it is.

    Returns:
        Its file, or the first of its parts.

    Raises:
        HubError: if it failed; what is there is kept.
        KeyboardInterrupt: after Ctrl+C; what is there is kept.
    """
    from models.hub.downloads import Downloads

    news = threading.Event()
    downloads = Downloads(lambda: hub, paths.models_dir(), lambda _job: news.set())
    hears_terminate = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if hears_terminate:  # what is there is safe in any case; this way the journal tells of all of it
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        job = downloads.add(repo.name, repo.revision, model)
        while not job.ended:
            news.wait(0.5)
            news.clear()
            line.show(progress_of(job))
    finally:
        downloads.close()
        line.clear()
        if hears_terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if job.error is not None:
        raise job.error
    return job.target


def progress_of(job: Job) -> str:
    """``62%  1.55 of 2.50 GiB  41.2 MiB/s  0:23 left``"""
    from app.engine.words import size
    from app.lab.status_line import duration

    share = f"{100 * job.fraction:3.0f}%  {size(job.done)} of {size(job.total)}"
    match job.state:
        case "queued" | "connecting":
            return f"{share}  connecting ..."
        case "checking":
            return f"{share}  checking what is there ..."
        case "waiting":
            return f"{share}  the connection broke, trying again in {job.pause_s:.0f} s"
    left = f"  {duration(job.eta)} left" if job.eta >= 0 else ""
    return f"{share}  {size(job.speed)}/s{left}" if job.speed else share


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
