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
