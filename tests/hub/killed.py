"""Downloads one file, and is killed by the test of crashes. Arguments: the endpoint and the place.

For every line of its input it makes a process that downloads, says its number, and says when it has
ended and how: a new interpreter for each would take far longer than what it does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from models.hub import transfer
from models.hub.client import Hub
from models.hub.downloads import Downloads
from tests.hub.conftest import QUICK


def download(endpoint: str, own: Path) -> int:
    """Download ``o/r/m.gguf``; the exit code."""
    hub = Hub(endpoint, token=False)
    repo = hub.repo("o/r")
    downloads = Downloads(lambda: hub, own, lambda job: None, QUICK)
    job = downloads.add(repo.name, repo.revision, repo.models[0])
    while not job.ended:
        if job.thread is not None:
            job.thread.join(0.1)
    return 0 if job.state == "done" else 1


def main() -> None:
    """See the module."""
    assert transfer  # imported before the first child is made
    endpoint, own = sys.argv[1:]
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(download(endpoint, Path(own)))
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
