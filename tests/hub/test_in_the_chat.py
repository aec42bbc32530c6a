"""The whole way inside the real application: search, judge, download, load."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import paths
from app.chat import messages as news
from app.chat.download_desk import DownloadDesk
from app.chat.screens import model_picker
from app.chat.screens.model_picker import ModelPicker
from app.chat.screens.repo_screen import RepoScreen
from models.hub.client import Hub
from models.hub.places import target_of
from tests.chat.conftest import Chat, chat, home, small_model
from tests.hub.conftest import QUICK
from tests.hub.server import LoopbackHub
from tests.panel.host import until
from tests.synthetic import SyntheticModels

__all__ = ["chat", "home", "small_model"]  # fixtures


async def test_from_the_hub_into_the_conversation(
    chat: Chat, server: LoopbackHub, synthetic: SyntheticModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_picker, "TYPING_PAUSE_S", 0.01)
    server.add(
        "someone/tiny-GGUF", {"tiny-Q8_0.gguf": synthetic("llama").read_bytes(), "mmproj-F16.gguf": b"GGUF"}
    )
    server.faults.cut_after = 200_000
    async with chat() as watch:
        await watch.ready()
        session = watch.session
        make_hub = lambda: Hub(server.url, token=False)  # noqa: E731
        session._desk = DownloadDesk(paths.models_dir(), session.post, make_hub, QUICK)
        await watch.pilot.press("ctrl+o")
        picker = watch.app.screen
        assert isinstance(picker, ModelPicker)
        picker.input.value = "someone tiny"
        await until(watch.pilot, lambda: picker.rows.keys == ["hf:someone/tiny-GGUF"] and not picker.looking)
        await watch.pilot.press("enter")
        await until(watch.pilot, lambda: isinstance(watch.app.screen, RepoScreen))
        screen = watch.app.screen
        assert isinstance(screen, RepoScreen)
        await until(
            watch.pilot, lambda: not screen.looking and "best for this computer" in screen.rows.plain_text
        )
        assert screen.rows.keys == ["tiny-Q8_0.gguf"]
        await watch.pilot.press("enter")
        target = target_of(paths.models_dir(), "someone/tiny-GGUF", "tiny-Q8_0.gguf")
        await until(watch.pilot, lambda: watch.of(news.Notice) and target.exists())
        notice = watch.of(news.Notice)[-1]
        assert notice.text == "tiny-Q8_0.gguf is here."
        await watch.pilot.press("escape")
        await until(watch.pilot, lambda: watch.app.screen is watch.app.chat)
        watch.app.commander.run(notice.actions[0].command)
        await until(watch.pilot, lambda: session.loaded and Path(session.loaded.model.path) == target)
        # The next start finds it by its name on the hub.
        session.load_model("someone/tiny-GGUF:Q8_0")
        await until(watch.pilot, lambda: session.model == "someone/tiny-GGUF:Q8_0" and session.loaded)
        assert session.loaded is not None and Path(session.loaded.model.path) == target


async def test_a_download_that_breaks_off_says_what_is_kept_and_goes_on(
    chat: Chat, server: LoopbackHub, synthetic: SyntheticModels
) -> None:
    data = synthetic("llama").read_bytes()
    server.add("someone/tiny-GGUF", {"tiny-Q8_0.gguf": data})
    server.faults.cut_after = len(data) // 3
    # The first connection breaks; after it the hub has gone.
    server.faults.statuses["resolve"] = [(200, {}), (503, {})]
    async with chat() as watch:
        await watch.ready()
        session = watch.session
        make_hub = lambda: Hub(server.url, token=False)  # noqa: E731
        session._desk = DownloadDesk(paths.models_dir(), session.post, make_hub, QUICK)
        job = session.downloads.want_file("someone/tiny-GGUF", "tiny-Q8_0.gguf", len(data))
        await until(watch.pilot, lambda: watch.of(news.Notice))
        notice = watch.of(news.Notice)[-1]
        assert notice.text.startswith("tiny-Q8_0.gguf broke off at 33%, which is kept: The hub has trouble")
        assert [action.label for action in notice.actions] == ["go on", "downloads"]
        await watch.pilot.press("ctrl+o")
        picker = watch.app.screen
        assert isinstance(picker, ModelPicker)
        await until(watch.pilot, lambda: "33% is kept. The hub has trouble" in picker.rows.plain_text)
        await watch.pilot.press("escape")
        server.faults.statuses.clear()
        server.faults.cut_after = 0
        watch.app.commander.run(notice.actions[0].command)
        await until(watch.pilot, lambda: job.state == "done")
        assert server.fetched() == len(data)  # no byte twice
        assert session.model != job.name


async def test_what_arrives_wrong_is_not_said_to_be_kept(
    chat: Chat, server: LoopbackHub, synthetic: SyntheticModels
) -> None:
    data = synthetic("llama").read_bytes()
    server.add("someone/tiny-GGUF", {"tiny-Q8_0.gguf": data})
    server.faults.corrupt_at = 1000
    async with chat() as watch:
        await watch.ready()
        session = watch.session
        make_hub = lambda: Hub(server.url, token=False)  # noqa: E731
        session._desk = DownloadDesk(paths.models_dir(), session.post, make_hub, QUICK)
        session.downloads.want_file("someone/tiny-GGUF", "tiny-Q8_0.gguf", len(data))
        await until(watch.pilot, lambda: watch.of(news.Notice))
        notice = watch.of(news.Notice)[-1]
        assert notice.text.startswith("tiny-Q8_0.gguf: What arrived")
        assert [action.label for action in notice.actions] == ["try again", "downloads"]
