"""One terminal for every test of the panel and the screens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.chat.panel.glyphs import glyphs


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
