"""One terminal for every test of the panel and the screens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.chat.panel.glyphs import glyphs
from app.chat.session import Session
from app.store.preferences import Preferences
from app.store.store import Store


@pytest.fixture(autouse=True)
def a_good_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Millions of colours, smooth blocks, no matter where the tests run."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("STRETCH_GLYPHS", "smooth")
    monkeypatch.delenv("NO_COLOR", raising=False)
    glyphs.cache_clear()
    yield
    glyphs.cache_clear()


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test of a screen asks the real hub for what it types."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session with a store and settings of its own whose engine is not started."""
    monkeypatch.setenv("STRETCH_HOME", str(tmp_path / "home"))
    store = Store(tmp_path / "conversations.sqlite3")
    preferences = Preferences(tmp_path / "settings.toml", store)
    yield Session(store, preferences, lambda message: None, log_path=tmp_path / "engine.log")
    store.close()
