"""Downloads one file, and is killed by the test of crashes. Arguments: the endpoint and the place."""

from __future__ import annotations

import sys
from pathlib import Path

from models.hub.client import Hub
from models.hub.downloads import Downloads, Job
from models.hub.files import HubModel
from tests.hub.conftest import QUICK


def main() -> int:
    """Download ``o/r/m.gguf``; a line per report, so that the test knows where it is."""
    endpoint, own = sys.argv[1:]
    hub = Hub(endpoint, token=False)
    repo = hub.repo("o/r")
    model: HubModel = repo.models[0]

    def tell(job: Job) -> None:
        print(job.state, job.done, job.error or "", flush=True)

    downloads = Downloads(lambda: hub, Path(own), tell, QUICK)
    job = downloads.add(repo.name, repo.revision, model)
    while not job.ended:
        if job.thread is not None:
            job.thread.join(0.1)
    return 0 if job.state == "done" else 1


if __name__ == "__main__":
    sys.exit(main())
