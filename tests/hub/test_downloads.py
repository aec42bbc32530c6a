"""The queue: one after the other, paused and resumed at any time, and what is on the disk afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.hub.client import Hub
from models.hub.downloads import Downloads, Job
from models.hub.names import HubName
from models.hub.part import part_path
from models.hub.places import find_here, is_here, remove, target_of, unfinished
from quantize.errors import HubError, ModelNotFoundError
from tests.hub.blob import Blob
from tests.hub.conftest import QUICK
from tests.hub.server import LoopbackHub

MB = 1_000_000


class Queue(Downloads):
    """A queue whose news can be waited for."""

    def __init__(self, hub: Hub, own: Path) -> None:
        self.news = threading.Condition()
        self.hub = hub
        super().__init__(lambda: hub, own, self._heard, QUICK)

    def _heard(self, job: Job) -> None:
        with self.news:
            self.news.notify_all()

    def until(self, true: Callable[[], object]) -> None:
        """Wait for news that make ``true()`` hold; the bound is for a test that hangs."""
        with self.news:
            assert self.news.wait_for(true, 60)

    def want(self, repo: str, path: str = "") -> Job:
        """Want a model of a repository."""
        listed = self.hub.repo(repo)
        model = next(m for m in listed.models if m.path.startswith(path))
        return self.add(repo, listed.revision, model)


@pytest.fixture
def queue(server: LoopbackHub, hub: Hub, tmp_path: Path) -> Iterator[Queue]:
    made = Queue(hub, tmp_path / "own")
    yield made
    server.faults.go_on.set()
    made.close(60)


def files(queue: Queue) -> list[str]:
    """What is on the disk."""
    return sorted(str(p.relative_to(queue.own)) for p in queue.own.rglob("*") if p.is_file())


def test_one_after_the_other(server: LoopbackHub, queue: Queue) -> None:
    server.add("o/one", {"m.gguf": Blob(2 * MB)})
    server.add("o/two", {"m.gguf": Blob(2 * MB, seed=2)})
    server.faults.hold_after = MB
    first, second = queue.want("o/one"), queue.want("o/two")
    assert server.faults.holding.wait(60)
    assert second.state == "queued" and len(server.requests("/o/two/resolve")) == 0
    server.faults.go_on.set()
    queue.until(lambda: first.state == second.state == "done")
    assert files(queue) == ["o/one/m.gguf", "o/two/m.gguf"]
    assert first.fraction == 1.0 and first.error is None and first.ended
    assert first.target.read_bytes() == server.repos["o/one"].files["m.gguf"].read(0, 2 * MB)
    again = queue.want("o/one")
    queue.until(lambda: again.state == "done")
    assert again is not first and server.fetched() == 4 * MB, "only checked"


def test_pause_lets_the_next_one_run(server: LoopbackHub, queue: Queue) -> None:
    """The paused download's server has fallen silent: nobody waits for it."""
    server.add("o/one", {"m.gguf": Blob(2 * MB)})
    server.add("o/two", {"m.gguf": Blob(2 * MB, seed=2)})
    server.faults.hold_after = MB
    first = queue.want("o/one")
    assert server.faults.holding.wait(60)
    queue.until(lambda: first.done > 0)
    server.faults.hold_after = -1
    second = queue.want("o/two")
    queue.pause(first)
    assert first.state == "paused" and first.eta == -1.0
    queue.until(lambda: second.state == "done")
    assert first.state == "paused"
    assert [f.identity.repo for f in unfinished(queue.own)] == ["o/one"]
    queue.resume(first)
    server.faults.go_on.set()
    queue.until(lambda: first.state == "done")
    assert files(queue) == ["o/one/m.gguf", "o/two/m.gguf"]


def test_cancel_removes_what_is_there(server: LoopbackHub, queue: Queue) -> None:
    server.add("o/r", {"m.gguf": Blob(2 * MB)})
    server.faults.hold_after = MB
    job = queue.want("o/r")
    assert server.faults.holding.wait(60)
    queue.until(lambda: job.done > 0)
    assert part_path(job.target).exists()
    queue.cancel(job)
    assert job.state == "cancelled"
    assert job.thread is not None
    job.thread.join(60)
    assert files(queue) == [] and not (queue.own / "o").exists()
    queue.cancel(job)
    queue.resume(job)
    assert job.state == "cancelled", "what was cancelled stays so until it is wanted again"


def test_a_cancelled_update_leaves_the_old_file(server: LoopbackHub, queue: Queue) -> None:
    server.add("o/r", {"m.gguf": Blob(2 * MB)})
    old = target_of(queue.own, "o/r", "m.gguf")
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    server.faults.hold_after = MB
    job = queue.want("o/r")
    assert server.faults.holding.wait(60)
    queue.cancel(job)
    assert job.thread is not None
    job.thread.join(60)
    assert files(queue) == ["o/r/m.gguf"] and old.read_bytes() == b"old"


def test_a_failure_is_kept_and_can_be_tried_again(server: LoopbackHub, queue: Queue) -> None:
    server.add("o/r", {"m.gguf": Blob(2 * MB)})
    server.faults.statuses["store"] = [(500, {})]
    job = queue.want("o/r")
    queue.until(lambda: job.state == "failed")
    assert job.error is not None and "trouble of its own" in job.error.message and job.error.hint
    server.faults.statuses.clear()
    assert queue.want("o/r") is job
    queue.until(lambda: job.state == "done")
    assert job.error is None


def test_a_split_model_is_one_download(server: LoopbackHub, queue: Queue) -> None:
    parts = {f"Q8_0/m-0000{i}-of-00003.gguf": Blob(MB + i, seed=i) for i in (1, 2, 3)}
    server.add("o/r", dict(parts))
    server.faults.hold_after = MB // 2
    job = queue.want("o/r")
    assert server.faults.holding.wait(60) and job.total == 3 * MB + 6
    server.faults.go_on.set()
    queue.until(lambda: job.state == "done")
    assert files(queue) == [f"o/r/{path}" for path in parts]
    assert job.done == job.total and is_here(queue.own, "o/r", job.model)
    found = find_here(queue.own, HubName("o/r", quant="Q8_0"))
    assert found == queue.own / "o/r/Q8_0/m-00001-of-00003.gguf"
    assert remove(queue.own, found) == job.total
    assert files(queue) == [] and queue.own.exists()


def test_what_earlier_runs_left_is_found(server: LoopbackHub, queue: Queue, hub: Hub) -> None:
    """Also a part in the middle of a split model: the others are looked up when it goes on."""
    parts = {f"m-0000{i}-of-00003.gguf": Blob(MB + i, seed=i) for i in (1, 2, 3)}
    server.add("o/r", dict(parts))
    server.faults.statuses["resolve"] = [(200, {}), (500, {})]
    job = queue.want("o/r")
    queue.until(lambda: job.state == "failed")
    server.faults.statuses.clear()
    assert files(queue)[0] == "o/r/m-00001-of-00003.gguf"
    later = Queue(hub, queue.own)
    later.find_unfinished()
    (found,) = later.jobs
    assert (found.state, found.model.path) == ("paused", "m-00002-of-00003.gguf")
    assert server.requests("/o/r/m-00001")[-1].n_sent == MB + 1
    later.resume(found)
    later.until(lambda: found.state == "done")
    assert files(queue) == [f"o/r/{path}" for path in parts]
    assert server.fetched() == 3 * MB + 6, "the first part was only checked"
    later.find_unfinished()
    assert later.jobs == [found]


def test_closing_pauses(server: LoopbackHub, queue: Queue) -> None:
    server.add("o/r", {"m.gguf": Blob(2 * MB)})
    server.faults.hold_after = MB
    job = queue.want("o/r")
    assert server.faults.holding.wait(60)
    queue.until(lambda: job.done > 0)
    queue.close(60)
    assert job.state == "paused" and job.thread is not None and not job.thread.is_alive()
    assert part_path(job.target).exists()


def test_speed_and_time_left(server: LoopbackHub, queue: Queue) -> None:
    seen: list[tuple[float, float]] = []
    server.add("o/r", {"m.gguf": Blob(30 * MB)})
    job = queue.want("o/r")
    queue.until(lambda: seen.append((job.speed, job.eta)) or job.state == "done")
    assert all(speed >= 0 for speed, _ in seen)
    assert all(eta == -1.0 or eta >= 0.0 for _, eta in seen)


# --------------------------------------------------------------------------- places


def test_hostile_names_have_no_place(tmp_path: Path) -> None:
    for repo, path in (("o/r", "../../x.gguf"), ("o/r", "/x.gguf"), ("../r", "x.gguf"), ("o/..", "x.gguf")):
        with pytest.raises(HubError, match="is not downloaded"):
            target_of(tmp_path, repo, path)


def test_only_own_downloads_are_removed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"mine")
    for path in (mine, own / ".." / "mine.gguf"):
        with pytest.raises(ModelNotFoundError, match="was not downloaded by Stretch"):
            remove(own, path)
    with pytest.raises(ModelNotFoundError, match="There is no"):
        remove(own, own / "o/r/m.gguf")
    assert mine.exists()


def test_a_name_finds_what_is_here(tmp_path: Path) -> None:
    own, cache = tmp_path / "own", tmp_path / "cache"
    for path in (
        own / "o/r/m-Q8_0.gguf",
        own / "o/r/m-Q4_K_M.gguf",
        own / "o/r/mmproj-F16.gguf",
        own / "o/r/big-Q2_K-00001-of-00002.gguf",
        cache / "models--o--s/snapshots/c0ffee/x-IQ4_XS.gguf",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")

    def find(repo: str, file: str = "", quant: str = "") -> str:
        found = find_here(own, HubName(repo, file, quant), cache)
        return found.name if found else ""

    assert find("o/r") == "m-Q4_K_M.gguf"
    assert find("o/r", quant="Q8_0") == "m-Q8_0.gguf"
    assert find("o/r", quant="Q2_K") == "", "a part is missing"
    assert find("o/r", "mmproj-F16.gguf") == "mmproj-F16.gguf"
    assert find("o/r", "m-Q5_K_M.gguf") == ""
    assert find("o/s") == "x-IQ4_XS.gguf"
    assert find("o/s", "x-IQ4_XS.gguf") == "x-IQ4_XS.gguf"
    assert find("o/t") == ""


def test_a_foreign_journal_is_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "o" / "r"
    folder.mkdir(parents=True)
    for name, text in (
        ("a.gguf", "not json"),
        ("b.gguf", '{"repo": "o/r", "path": "../../x.gguf", "revision": "", "size": 5, "digest": ""}'),
        ("c.gguf", '{"repo": "o/r", "path": "c.gguf", "revision": "", "size": -5, "digest": ""}'),
        ("d.gguf", "[1, 2]"),
    ):
        (folder / f"{name}.part.journal").write_text(text)
        (folder / f"{name}.part").write_bytes(b"x")
    assert list(unfinished(tmp_path)) == []
