"""The picker with a hub behind it: search, what a repository holds, downloads in their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.message import Message
from textual.pilot import Pilot

from app.chat.download_desk import DownloadDesk
from app.chat.messages import DownloadsChanged, ModelWanted, Notice
from app.chat.screens import model_picker
from app.chat.screens.ask import Choose
from app.chat.screens.hub_rows import CatalogSource, HubSource, job_row
from app.chat.screens.model_picker import ModelPicker
from app.chat.screens.model_rows import LocalSource
from app.chat.screens.repo_screen import RepoScreen
from app.chat.session import Session
from models.catalog import catalog
from models.hub.client import Hub
from models.hub.places import target_of, unfinished
from tests.hub.blob import Blob
from tests.hub.conftest import QUICK
from tests.hub.server import LoopbackHub
from tests.hub.test_remote import big_gguf
from tests.panel.conftest import a_good_terminal, session  # noqa: F401  # fixtures
from tests.panel.host import Host, until

PLENTY = 64 << 30
MB = 1_000_000
Compare = Callable[..., bool]


class Chat(Host):
    """A host that hands the news of downloads to the screens, as the chat does."""

    def __init__(self, picker: ModelPicker) -> None:
        super().__init__(screen=picker)
        self.notices: list[Notice] = []

    def on_downloads_changed(self, message: DownloadsChanged) -> None:
        for screen in self.screen_stack:
            if callable(show := getattr(screen, "show_downloads", None)):
                show(message.done)

    def on_notice(self, message: Notice) -> None:
        self.notices.append(message)


class Bench:
    """A picker over a hub on loopback."""

    def __init__(self, session: Session, server: LoopbackHub, tmp_path: Path) -> None:  # noqa: F811
        self.own = tmp_path / "own"
        self.server = server
        self.desk = DownloadDesk(self.own, self._post, lambda: Hub(server.url, token=False), QUICK)
        session._desk = self.desk
        self.picker = ModelPicker(
            session,
            [
                LocalSource(self.own, (), lambda: PLENTY),
                CatalogSource(self.desk, lambda: PLENTY),
                HubSource(self.desk),
            ],
        )
        self.picker._budget = lambda: PLENTY  # type: ignore[method-assign]
        self.picker.input.cursor_blink = False
        self.app = Chat(self.picker)

    def _post(self, message: Message) -> None:
        self.app.post_message(message)

    async def type(self, pilot: Pilot[Any], text: str) -> None:
        """Put a text where one types, and wait until every source has answered."""
        self.picker.input.value = text
        await until(pilot, lambda: self.picker.query_text == text and not self.picker.looking)

    def text(self) -> str:
        """What the picker shows."""
        return self.picker.rows.plain_text


@pytest.fixture
def bench(
    session: Session,  # noqa: F811
    server: LoopbackHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    monkeypatch.setattr(model_picker, "TYPING_PAUSE_S", 0.01)
    made = Bench(session, server, tmp_path)
    yield made
    server.faults.go_on.set()
    made.desk.close()


async def test_all_groups(bench: Bench) -> None:
    gguf = {"total": 4_022_468_096, "architecture": "qwen3", "context_length": 40960}
    bench.server.add("o/Qwen3-4B-GGUF", {"m-Q4_0.gguf": b""}, gguf=gguf, downloads=12_345)
    async with bench.app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not bench.picker.looking)
        assert bench.server.seen == [], "nobody is asked before something is typed"
        headings = [
            line.strip() for line in bench.text().splitlines() if line.startswith(" ") and line[1:2] != " "
        ]
        assert headings == ["On this computer", "Worth trying"]
        assert [r.name for r in bench.picker.found if "/" in r.name] == [m.address for m in catalog()]
        await bench.type(pilot, "qwen3 4b")
        assert "unsloth/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf" in bench.picker.rows.keys
        assert bench.picker.rows.keys[-1] == "hf:o/Qwen3-4B-GGUF"
        assert "4.0B weights, 12,345 downloads" in bench.text() and "apache-2.0" in bench.text()
        assert [s.query["search"] for s in bench.server.seen] == [["qwen3 4b"]], "asked once"


async def test_paths_stay_here(bench: Bench, tmp_path: Path) -> None:
    async with bench.app.run_test(size=(120, 40)) as pilot:
        for text in ("/secret/model.gguf", "~/secret", "secret.gguf", "x"):
            await bench.type(pilot, text)
        assert bench.server.seen == []


async def test_an_unreachable_hub_is_one_calm_line(bench: Bench) -> None:
    bench.server.faults.statuses["api"] = [(503, {})]
    async with bench.app.run_test(size=(120, 40)) as pilot:
        await bench.type(pilot, "bonsai")
        lines = bench.text().splitlines()
        at = lines.index(" On the hub")
        assert "trouble of its own" in lines[at + 1] and len(lines) == at + 2
        assert bench.picker.rows.keys, "the other groups are there"
        assert bench.app.notices == []


async def test_from_the_search_to_the_loaded_model(bench: Bench) -> None:
    bench.server.add(
        "o/r", {"m-Q8_0.gguf": big_gguf(1000, 8), "m-Q4_0.gguf": big_gguf(1000, 2), "x-Q2_K.gguf": b"<html>"}
    )
    async with bench.app.run_test(size=(120, 40)) as pilot:
        await bench.type(pilot, "hf:o/r")
        await pilot.press("down", "up", "enter")
        await until(pilot, lambda: isinstance(bench.app.screen, RepoScreen))
        screen = bench.app.screen
        assert isinstance(screen, RepoScreen)
        await until(pilot, lambda: not screen.looking)
        text = screen.rows.plain_text
        assert screen.rows.keys == ["x-Q2_K.gguf", "m-Q4_0.gguf", "m-Q8_0.gguf"]
        assert "best for this computer" in text and text.count("fits, up to 32k tokens") == 2
        assert "is not a GGUF file" in text
        assert screen.rows.cursor_key == "m-Q8_0.gguf", "the cursor is on the best"
        await pilot.press("home", "enter")
        assert bench.app.screen is screen and bench.desk.jobs == [], "what does not run is not downloaded"
        await pilot.press("end", "enter")
        await until(pilot, lambda: bench.app.screen is bench.picker)
        target = target_of(bench.own, "o/r", "m-Q8_0.gguf")
        await until(pilot, lambda: target.exists() and bench.app.notices)
        (notice,) = bench.app.notices
        assert notice.text == "m-Q8_0.gguf is here." and notice.actions[0].command == f"/model {target}"
        await until(pilot, lambda: bench.desk.jobs == [] and not bench.picker.looking)
        await pilot.press("enter")  # again into the repository: it is here already
        await until(pilot, lambda: isinstance(bench.app.screen, RepoScreen) and not bench.app.screen.looking)
        await until(pilot, lambda: "here already" in bench.app.screen.rows.plain_text)  # type: ignore[attr-defined]
        await pilot.press("end", "enter")
        await until(pilot, lambda: bench.app.wishes)
        assert [w.name for w in bench.app.wishes if isinstance(w, ModelWanted)] == [str(target)]


async def test_a_download_is_paused_resumed_and_cancelled_in_its_row(bench: Bench) -> None:
    model = catalog()[0]
    bench.server.add(model.repo, {model.file: Blob(3 * MB, b"GGUF")})
    bench.server.faults.hold_after = MB
    async with bench.app.run_test(size=(120, 40)) as pilot:
        await bench.type(pilot, model.name.lower().replace(" ", "-"))
        assert bench.picker.rows.keys[:1] == [model.address]
        await pilot.press("enter")
        await until(pilot, lambda: "Downloads" in bench.text())
        job = bench.desk.job(model.address)
        assert job is not None
        await until(pilot, lambda: job.done >= MB)
        await until(pilot, lambda: "33%" in bench.text())
        assert bench.text().count(model.file.removesuffix(".gguf")) == 1, "it left its old place"
        hints = str(bench.picker.query_one("KeyHints").render_line(0).text)
        assert "pause" in hints and "cancel" in hints
        await pilot.press("enter")
        assert job.state == "paused" and "paused at 977 KiB" in bench.text()
        bench.server.faults.hold_after = -1
        bench.server.faults.go_on.set()
        await pilot.press("enter")
        target = target_of(bench.own, model.repo, model.file)
        await until(pilot, target.exists)
        await until(pilot, lambda: "Downloads" not in bench.text())


async def test_cancel(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    model = catalog()[0]
    bench.server.add(model.repo, {model.file: Blob(3 * MB, b"GGUF")})
    bench.server.faults.hold_after = MB
    async with bench.app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not bench.picker.looking)
        bench.picker.rows.move_to(model.address)
        await pilot.press("enter")
        job = bench.desk.job(model.address)
        assert job is not None
        await until(pilot, lambda: job.done >= MB)
        bench.picker.rows.move_to(model.address)
        monkeypatch.setattr(model_picker, "ASK_FROM_BYTES", 1000)
        await pilot.press("ctrl+x")
        await until(pilot, lambda: isinstance(bench.app.screen, Choose))
        await pilot.press("enter")
        await until(pilot, lambda: bench.app.screen is bench.picker)
        assert bench.desk.jobs == [job], "the first answer keeps it"
        await pilot.press("ctrl+x")
        await until(pilot, lambda: isinstance(bench.app.screen, Choose))
        await pilot.press("down", "enter")
        await until(pilot, lambda: bench.desk.jobs == [])
        assert job.thread is not None
        job.thread.join(60)
        assert list(unfinished(bench.own)) == [] and "Downloads" not in bench.text()
        assert bench.app.notices == []


async def test_a_failure_says_why_in_its_row_and_in_the_chat(bench: Bench) -> None:
    model = catalog()[0]
    async with bench.app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not bench.picker.looking)
        bench.picker.rows.move_to(model.address)
        await pilot.press("enter")
        await until(pilot, lambda: bench.app.notices)
        assert "There is no" in bench.app.notices[0].text
        await until(pilot, lambda: f"There is no {model.repo}" in bench.text())


async def test_what_an_earlier_run_left_is_shown(bench: Bench, session: Session, tmp_path: Path) -> None:  # noqa: F811
    bench.server.add("o/r", {"m.gguf": Blob(3 * MB)})
    repo = bench.desk.hub().repo("o/r")
    bench.server.faults.hold_after = MB
    job = bench.desk.want(repo, repo.models[0])
    assert bench.server.faults.holding.wait(60)
    bench.desk.close()
    later = Bench(session, bench.server, tmp_path)
    async with later.app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: not later.picker.looking)
        assert later.picker.rows.keys[0] == job.name
        assert "paused at" in later.text()
        bench.server.faults.hold_after = -1
        bench.server.faults.go_on.set()
        later.picker.rows.move_to(job.name)
        await pilot.press("enter")
        await until(pilot, target_of(later.own, "o/r", "m.gguf").exists)
    later.desk.close()


def test_rows_of_every_state(bench: Bench) -> None:
    from models.hub.downloads import Job
    from models.hub.files import HubFile, HubModel
    from quantize.errors import HubError

    model = HubModel("sub/m-Q4_0.gguf", "Q4_0", (HubFile("sub/m-Q4_0.gguf", 100 << 20, ""),))
    job = Job("o/r", "", model, bench.own / "x", done=50 << 20)
    words = {
        "queued": "waits for its turn",
        "connecting": "connecting",
        "checking": "checking what is here",
        "paused": "paused at 50.0 MiB",
        "waiting": "broke off, again in 4.0 s",
    }
    job.pause_s = 4.0
    for state, said in words.items():
        job.state = state  # type: ignore[assignment]
        assert job_row(job).status == said and job_row(job).progress == 0.5
    job.state, job.speed = "loading", 5.0 * (1 << 20)
    assert job_row(job).status == "5.00 MiB/s, 10 s left"
    job.state, job.error = "failed", HubError("No.", "Do that.")
    assert (job_row(job).progress, job_row(job).reason) == (None, "50% is kept. No. Do that.")
    job.done = 0
    assert job_row(job).reason == "No. Do that."


# --------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (140, 40)], ids=["60x20", "80x24", "140x40"])
def test_picture_of_the_search(snap_compare: Compare, bench: Bench, size: tuple[int, int]) -> None:
    """A download on its way, what is here, the catalog and what the hub finds."""
    gguf = {"total": 8_190_735_360, "architecture": "qwen3", "context_length": 40960}
    for i, (name, license) in enumerate(
        (("prism-ml/Bonsai-8B-gguf", "apache-2.0"), ("someone/Bonsai-8B-long-name-of-a-variant-GGUF", "mit"))
    ):
        bench.server.add(name, {"m.gguf": b""}, gguf=gguf, downloads=123_456 // (i * 9 + 1), license=license)
    model = next(m for m in catalog() if m.name == "Bonsai 4B")
    bench.server.add(model.repo, {model.file: Blob(3 * MB, b"GGUF")}, downloads=1, private=True)
    bench.desk._make_hub = lambda: Hub(bench.server.url, token="hf_the_right_one")
    bench.server.faults.hold_after = 2 * MB

    async def before(pilot: Pilot[Any]) -> None:
        job = bench.desk.want_file(model.repo, model.file, 3 * MB)
        await until(pilot, lambda: job.done >= 2 * MB)
        bench.desk.toggle(job)
        await bench.type(pilot, "bonsai")
        await pilot.press("down", "down")

    assert snap_compare(bench.app, run_before=before, terminal_size=size)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (140, 40)], ids=["60x20", "80x24", "140x40"])
def test_picture_of_a_repository(snap_compare: Compare, bench: Bench, size: tuple[int, int]) -> None:
    """Quantizations side by side: the best one, one that is here, one that does not run."""
    bench.server.add(
        "someone/Tiny-GGUF",
        {
            "Tiny-Q8_0.gguf": big_gguf(1000, 8),
            "Tiny-Q4_0.gguf": big_gguf(1000, 2),
            "Tiny-Q2_K.gguf": b"<html>",
            "Tiny-F16-00001-of-00003.gguf": b"x",
        },
    )
    here = target_of(bench.own, "someone/Tiny-GGUF", "Tiny-Q4_0.gguf")
    here.parent.mkdir(parents=True)
    here.write_bytes(big_gguf(1000, 2))

    async def before(pilot: Pilot[Any]) -> None:
        await bench.type(pilot, "hf:someone/Tiny-GGUF")
        bench.picker.rows.move_to("hf:someone/Tiny-GGUF")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(bench.app.screen, RepoScreen) and not bench.app.screen.looking)

    assert snap_compare(bench.app, run_before=before, terminal_size=size)
