"""The real application on a small model, in a home of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from app.chat.app import StretchApp
from app.chat.panel.glyphs import glyphs
from app.options import ChatOptions
from tests.chat.watch import Watch
from tests.synthetic import SyntheticModels

SHORT = {"max_tokens": 24, "temperature": 0.0, "n_ctx": 1024, "n_threads": 1, "measure_loss": False}
"""Settings under which a reply of the small model is short and always the same."""

LONG = {"max_tokens": 1200, "temperature": 1.0, "seed": 1, "min_p": 0.01, "n_ctx": 4096}
"""Settings under which it has 1,200 tokens: no end of a reply is ever drawn."""

Chat = Callable[..., AbstractAsyncContextManager[Watch]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that is written goes below this directory."""
    monkeypatch.setenv("STRETCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def a_good_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Millions of colours and smooth blocks, wherever the tests run."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("STRETCH_GLYPHS", "smooth")
    monkeypatch.delenv("NO_COLOR", raising=False)
    glyphs.cache_clear()
    yield
    glyphs.cache_clear()


@pytest.fixture
def small_model(synthetic: SyntheticModels) -> Path:
    """A model of two layers that answers with noise, at once."""
    return synthetic("llama", endless=True)


@pytest.fixture
def chat(small_model: Path) -> Chat:
    """``async with chat(max_tokens=-1) as watch:`` runs the application with the small model."""

    @asynccontextmanager
    async def run(
        size: tuple[int, int] = (120, 40),
        *,
        model: str | Path = small_model,
        resume: int | None = None,
        **settings: object,
    ) -> AsyncIterator[Watch]:
        app = StretchApp(ChatOptions(model=str(model), resume=resume, overrides={**SHORT, **settings}))
        app.chat.composer.cursor_blink = False
        async with app.run_test(size=size) as pilot:
            watch = Watch(pilot)
            yield watch

    return run
