"""One file over a bad line: complete, right, and no byte twice."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from models.hub import part as part_module
from models.hub.client import Hub
from models.hub.control import Control, Stopped
from models.hub.part import PIECE, Identity, PartFile, journal_path, part_path
from models.hub.transfer import Meter, Patience, Transfer
from quantize.errors import HubError, HubUnavailableError
from tests.hub.blob import Blob
from tests.hub.conftest import QUICK
from tests.hub.server import TOKEN, LoopbackHub

MB = 1_000_000


class Fetch:
    """A transfer of one file of the server, as often as wanted."""

    def __init__(
        self, server: LoopbackHub, hub: Hub, target: Path, blob: Blob, patience: Patience = QUICK
    ) -> None:
        self.blob = blob
        self.target = target
        self.hub = hub
        self.patience = patience
        self.told: list[tuple[str, int]] = []
        self.wanted = blob.size
        self.reached = threading.Event()
        """Set when ``wanted`` bytes are there."""
        repo = server.add("o/r", {"m.gguf": blob})
        self.identity = Identity("o/r", "m.gguf", repo.sha, blob.size, f"sha256:{blob.sha256}")

    def __call__(self, control: Control | None = None, hub: Hub | None = None) -> None:
        def tell(state: str, done: int, _pause: float) -> None:
            self.told.append((state, done))
            if done >= self.wanted:
                self.reached.set()

        Transfer(hub or self.hub, self.identity, self.target, control or Control(), tell, self.patience).run()

    def error(self, hub: Hub | None = None) -> str:
        """What it says when it fails."""
        with pytest.raises(HubError) as caught:
            self(hub=hub)
        return str(caught.value)

    @property
    def kept(self) -> int:
        """Bytes of the part."""
        return part_path(self.target).stat().st_size if part_path(self.target).exists() else 0

    def arrived(self) -> bool:
        """Whether the file is there, right, and nothing else beside it."""
        right = self.target.read_bytes() == self.blob.read(0, self.blob.size)
        return right and [p.name for p in self.target.parent.iterdir()] == [self.target.name]


@pytest.fixture
def fetch(server: LoopbackHub, hub: Hub, tmp_path: Path) -> Fetch:
    return Fetch(server, hub, tmp_path / "own" / "m.gguf", Blob(3 * MB))


def test_a_file_arrives(server: LoopbackHub, fetch: Fetch) -> None:
    fetch()
    assert fetch.arrived()
    assert server.fetched() == fetch.blob.size
    states = list(dict.fromkeys(state for state, _ in fetch.told))
    assert states == ["checking", "connecting", "loading"] or states == ["connecting", "loading", "checking"]
    assert (fetch.target.stat().st_mode & 0o777) == 0o600


def test_two_hundred_megabytes_with_a_break_every_ten(server: LoopbackHub, hub: Hub, tmp_path: Path) -> None:
    fetch = Fetch(server, hub, tmp_path / "own" / "m.gguf", Blob(200 * MB))
    server.faults.cut_after = 10 * MB
    fetch()
    assert fetch.target.stat().st_size == 200 * MB
    assert fetch.arrived()
    n_requests = len(server.requests("/o/r/m.gguf"))
    print(f"fetched {server.fetched():,} bytes of {200 * MB:,} in {n_requests} requests")
    assert server.fetched() <= 1.01 * 200 * MB


def test_what_is_there_is_not_fetched_again(server: LoopbackHub, fetch: Fetch) -> None:
    server.faults.cut_after = 2 * MB
    server.faults.statuses["resolve"] = [(200, {}), (500, {})]
    assert "trouble of its own" in fetch.error()
    assert fetch.kept == 2 * MB
    server.faults = type(server.faults)()
    fetch()
    assert fetch.arrived() and server.fetched() == fetch.blob.size


def test_a_complete_file_is_only_checked(server: LoopbackHub, fetch: Fetch) -> None:
    fetch()
    server.seen.clear()
    fetch()
    assert fetch.arrived() and server.seen == []


def test_a_damaged_file_is_replaced(server: LoopbackHub, fetch: Fetch) -> None:
    fetch()
    fetch.target.write_bytes(b"\0" * fetch.blob.size)
    fetch()
    assert fetch.arrived()


def test_a_wrong_file_never_takes_the_place_of_another(server: LoopbackHub, fetch: Fetch) -> None:
    fetch.target.parent.mkdir()
    fetch.target.write_bytes(b"an older version")
    server.faults.corrupt_at = 1_234_567
    assert "is not the file of the hub (its sha256 differs). It was removed." in fetch.error()
    assert fetch.target.read_bytes() == b"an older version"
    assert [p.name for p in fetch.target.parent.iterdir()] == ["m.gguf"]
    server.faults.corrupt_at = -1
    fetch()
    assert fetch.arrived()


def test_a_small_file_of_git_is_checked_too(server: LoopbackHub, fetch: Fetch) -> None:
    server.repos["o/r"].small = ("m.gguf",)
    fetch.identity = Identity(
        "o/r", "m.gguf", server.repos["o/r"].sha, fetch.blob.size, f"git:{fetch.blob.git_oid}"
    )
    server.faults.corrupt_at = 7
    assert "(its git differs)" in fetch.error()
    server.faults.corrupt_at = -1
    fetch()
    assert fetch.arrived()


@pytest.mark.parametrize("total", [2 * MB, 4 * MB])
def test_another_length_is_refused(server: LoopbackHub, fetch: Fetch, total: int) -> None:
    server.faults.total = total
    assert "sends other ones" in fetch.error()
    assert not fetch.target.exists()


def test_short_answers_are_put_together(server: LoopbackHub, fetch: Fetch) -> None:
    server.faults.stop_short = MB + 1
    fetch()
    assert fetch.arrived() and server.fetched() == fetch.blob.size


def test_a_store_without_ranges(server: LoopbackHub, fetch: Fetch) -> None:
    """What is there is passed over in what comes from the beginning again."""
    server.faults.no_ranges = True
    server.faults.cut_after = 2 * MB
    server.faults.statuses["resolve"] = [(200, {}), (404, {})]
    fetch.error()
    assert fetch.kept == 2 * MB
    server.faults.cut_after = 0
    server.faults.statuses.clear()
    fetch()
    assert fetch.arrived()


def test_it_gives_up_when_nothing_comes(server: LoopbackHub, fetch: Fetch) -> None:
    server.faults.statuses["store"] = [(503, {})]
    assert "trouble of its own (status 503)" in fetch.error()
    assert len(server.requests("resolve")) == QUICK.tries
    assert fetch.told.count(("waiting", 0)) == QUICK.tries - 1


def test_trouble_that_passes_is_not_told(server: LoopbackHub, fetch: Fetch) -> None:
    server.faults.statuses["store"] = [(503, {}), (500, {}), (200, {})]
    server.faults.statuses["resolve"] = [(429, {}), (200, {})]
    fetch()
    assert fetch.arrived()


def test_a_long_rate_limit_is_told_at_once(server: LoopbackHub, fetch: Fetch) -> None:
    server.faults.statuses["resolve"] = [(429, {"Retry_After": "3600"})]
    assert "Try again in 60 minutes." in fetch.error()
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {"code": "GatedRepo"}, "o/r is gated"),
        (403, {"code": "GatedRepo"}, "o/r is gated"),
        (404, {"code": "EntryNotFound"}, "has no file o/r/m.gguf"),
        (404, {"code": "RepoNotFound"}, "There is no o/r/m.gguf"),
        (403, {}, "does not let this account"),
        (416, {}, "sends other ones"),
    ],
)
def test_refusals_end_it(
    server: LoopbackHub, fetch: Fetch, status: int, headers: dict[str, str], words: str
) -> None:
    server.faults.statuses["resolve"] = [(status, headers)]
    assert words in fetch.error()
    assert len(server.seen) == 1


def test_an_expired_address_is_asked_for_again(server: LoopbackHub, fetch: Fetch) -> None:
    """The store refuses the signature once; the hub gives another."""
    server.faults.statuses["store"] = [(403, {}), (200, {})]
    fetch()
    assert fetch.arrived() and len(server.requests("resolve")) == 2


def test_a_redirect_in_circles(server: LoopbackHub, fetch: Fetch) -> None:
    server.faults.loop = True
    fetch.patience = Patience(0.001, 0.001, 1)
    assert "it sends us round in circles" in fetch.error()
    assert len(server.seen) <= 12


def test_the_token_goes_to_the_hub_only(server: LoopbackHub, fetch: Fetch) -> None:
    repo = server.repos["o/r"]
    repo.gated = True
    assert "o/r is gated" in fetch.error() and "log in" in fetch.error()
    known = Hub(server.url, token=TOKEN)
    assert "Accept its terms at" in fetch.error(known), "the account is known and was not let in yet"
    server.open = True
    server.faults.cut_after = MB
    fetch(hub=known)
    assert fetch.arrived()
    assert {s.token for s in server.seen if s.server == "store"} == {""}
    assert {s.token for s in server.seen[-2:] if s.server == "hub"} == {f"Bearer {TOKEN}"}


def test_offline(server: LoopbackHub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in fetch.error()
    assert server.seen == []


# --------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("hold", [0, MB])
def test_stopping_wakes_a_thread_that_waits_for_bytes(server: LoopbackHub, fetch: Fetch, hold: int) -> None:
    """The server has fallen silent: nothing but the shut socket ends the read before its time limit."""
    server.faults.hold_after = fetch.wanted = hold
    control = Control()
    ended: list[type[BaseException]] = []

    def work() -> None:
        try:
            fetch(control)
        except BaseException as error:
            ended.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    assert server.faults.holding.wait(60) and fetch.reached.wait(60)
    control.stop()
    thread.join(20)  # far less than the time limit of a read
    assert not thread.is_alive() and ended == [Stopped]
    assert fetch.kept == hold
    server.faults.go_on.set()
    server.faults.hold_after = -1
    fetch()
    assert fetch.arrived()


def test_one_program_at_a_time(server: LoopbackHub, fetch: Fetch) -> None:
    with PartFile(fetch.target, fetch.identity) as held:
        held.resume(lambda done: None)
        held.write(fetch.blob.read(0, 1000))
        assert "Another Stretch is downloading m.gguf" in fetch.error()
    fetch()
    assert fetch.arrived() and server.fetched() == fetch.blob.size - 1000


# --------------------------------------------------------------------------- what is there


def begun(fetch: Fetch, n: int) -> None:
    """A download that has got ``n`` bytes."""
    with PartFile(fetch.target, fetch.identity) as part:
        part.resume(lambda done: None)
        for at in range(0, n, 10_000):
            part.write(fetch.blob.read(at, min(10_000, n - at)))


def test_a_newer_version_begins_anew(server: LoopbackHub, fetch: Fetch) -> None:
    begun(fetch, MB)
    newer = Fetch(server, fetch.hub, fetch.target, Blob(3 * MB, seed=2))
    newer()
    assert newer.arrived() and server.fetched() == 3 * MB


@pytest.mark.parametrize(
    "damage",
    ["zeros", "garbage", "longer", "no journal", "torn line", "garbage in the journal", "shorter"],
)
def test_damage_costs_only_what_is_damaged(server: LoopbackHub, fetch: Fetch, damage: str) -> None:
    begun(fetch, 2 * MB)
    part, journal = part_path(fetch.target), journal_path(fetch.target)
    lines = journal.read_bytes().splitlines(keepends=True)
    kept = 2 * MB
    if damage in ("zeros", "garbage"):  # blocks that never reached the disk
        with part.open("r+b") as file:
            file.seek(MB)
            file.write((b"\0" if damage == "zeros" else b"x") * 5000)
        kept = MB - PIECE - 10_000
    elif damage == "longer":
        with part.open("ab") as file:
            file.write(b"written, but the journal did not hear of it")
    elif damage == "no journal":
        journal.unlink()
        kept = 0
    elif damage == "torn line":
        journal.write_bytes(b"".join(lines)[:-3])
        kept = 2 * MB - PIECE - 10_000
    elif damage == "garbage in the journal":
        journal.write_bytes(b"".join([*lines[:3], b"-5 zz\n", *lines[4:]]))
        kept = 2 * PIECE
    else:
        os.truncate(part, MB)
        kept = MB - PIECE - 10_000
    fetch()
    assert fetch.arrived()
    assert server.fetched() <= 3 * MB - kept


def test_pieces_are_small(fetch: Fetch) -> None:
    """A program that is killed loses no more than one piece."""
    begun(fetch, 2 * MB)
    pieces = [int(line.split()[0]) for line in journal_path(fetch.target).read_bytes().splitlines()[1:]]
    assert sum(pieces) == 2 * MB and max(pieces) <= PIECE + 10_000


def test_the_disk_is_looked_at_first(
    server: LoopbackHub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_module, "free_bytes", lambda path: part_module.RESERVE + 2 * MB)
    said = fetch.error()
    assert "There is not enough room for m.gguf: 2.9 MiB are to come, and 257.9 MiB are free" in said
    assert server.seen == []


def test_the_disk_is_looked_at_on_the_way(
    server: LoopbackHub, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else fills it meanwhile."""
    fetch = Fetch(server, hub, tmp_path / "m.gguf", Blob(30 * MB))
    frees = [1 << 40, 1 << 40, 5 * MB]
    monkeypatch.setattr(part_module, "free_bytes", lambda path: frees.pop(0) if len(frees) > 1 else frees[0])
    assert "not enough room" in fetch.error()
    assert 0 < fetch.kept < 30 * MB
    kept = fetch.kept
    frees[:] = [1 << 40]
    fetch()
    assert fetch.arrived()
    assert server.requests("/o/r/m.gguf")[-1].start == kept


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_one_sentence(
    server: LoopbackHub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """The system writes half of what it is given, then nothing more."""
    real, written = os.write, 0

    def write(fd: int, data: bytes) -> int:
        nonlocal written
        if len(data) < 1000:
            return real(fd, data)  # the journal
        if written > MB:
            raise OSError(code, os.strerror(code))
        n = real(fd, data[: max(1, len(data) // 2)])
        written += n
        return n

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        said = fetch.error()
    assert ("The disk is full: " in said) == (code != errno.EIO)
    assert "of 2.9 MiB of m.gguf are here" in said and "what is here is kept" in said.lower()
    assert MB - PIECE < fetch.kept <= MB + PIECE
    kept = fetch.kept
    fetch()
    assert fetch.arrived()
    assert server.requests("/o/r/m.gguf")[-1].start == kept


def test_no_right_to_write(fetch: Fetch) -> None:
    fetch.target.parent.mkdir()
    fetch.target.parent.rmdir()
    fetch.target.parent.write_text("a file in the way")
    assert "Nothing can be written in" in fetch.error()


def test_a_link_in_the_place_of_the_part_is_not_followed(fetch: Fetch, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    fetch.target.parent.mkdir()
    part_path(fetch.target).symlink_to(mine)
    assert "Nothing can be written in" in fetch.error()
    assert mine.read_text() == "mine"


def test_the_speed_is_that_of_the_last_seconds() -> None:
    now = 0.0
    meter = Meter(window=5.0, clock=lambda: now)
    assert meter.speed == 0.0
    for second in range(20):
        now = float(second)
        meter.mark(100 * second if second < 10 else 1000 + 500 * (second - 10))
    assert meter.speed == pytest.approx(500.0)
    meter.mark(0)
    assert meter.speed == 0.0


def test_unavailable_is_a_hub_error() -> None:
    assert HubUnavailableError("x", retry_after=3).retry_after == 3
