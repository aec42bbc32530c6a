"""``/tail`` in the chat: the newest tokens stay exact, and that is seen, remembered and undone."""

from __future__ import annotations

import pytest

from app.chat import messages as news
from app.store.preferences import Preferences
from quantize.cache_types import AUTO_TAIL
from tests.chat.conftest import Chat
from tests.chat.watch import Watch


@pytest.fixture(autouse=True)
def own_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRETCH_KERNEL", "own")


def header(watch: Watch) -> str:
    return watch.app.chat.header.render().plain


async def switched(watch: Watch, command: str) -> None:
    """Type a command and wait for what comes of it."""
    before = len(watch.of(news.CacheSwitched))
    await watch.say(command)
    await watch.until(lambda: len(watch.of(news.CacheSwitched)) > before)
    await watch.ready()
    await watch.pilot.pause()


def stored(watch: Watch) -> int:
    """What the conversation's settings say."""
    preferences = Preferences(watch.session.preferences.path, watch.session.store)
    return preferences.resolve(model=watch.session.model, conversation=watch.session.page.id).tail


async def test_the_window_is_shown_remembered_and_undone(chat: Chat) -> None:
    async with chat(size=(140, 40)) as watch:
        await watch.say("hello")
        await watch.ready()
        await switched(watch, "/kv tq3")
        assert "tq3  tail 256" in header(watch) and stored(watch) == AUTO_TAIL
        await switched(watch, "/tail 64")
        assert "tq3  tail 64" in header(watch) and stored(watch) == 64
        assert watch.of(news.CacheSwitched)[-1].changed.bytes_after < 2 << 20
        await watch.until(lambda: watch.session.status is not None and watch.session.status.tail == 64)
        assert "tq3+64" in watch.app.chat.panel.query_one("#stretch").plain_text  # type: ignore[attr-defined]
        await switched(watch, "/kv f16")
        assert "tail" not in header(watch) and stored(watch) == 64
        await switched(watch, "/kv tq2+32")
        assert "tq2  tail 32" in header(watch) and stored(watch) == 32
        await watch.pilot.press("f7")
        await watch.until(lambda: watch.session.cache.now.type_k == "f16")
        assert watch.session.cache.now.tail == 64
        await switched(watch, "/kv tq3")
        await switched(watch, "/tail off")
        assert "tail" not in header(watch) and stored(watch) == 0
        await switched(watch, "/tail auto")
        assert "tail 256" in header(watch) and stored(watch) == AUTO_TAIL
        page = watch.session.page.id
    async with chat(resume=page) as again:
        await again.ready()
        loaded = again.session.loaded
        assert loaded is not None and (loaded.type_k, loaded.tail) == ("tq3", 256)


async def test_what_cannot_be_is_said(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRETCH_KERNEL", "stock")
    async with chat(type_k="tq3", type_v="tq3") as watch:
        await watch.ready()
        await watch.say("/tail many")
        await watch.until(lambda: watch.of(news.Notice))
        assert "'many' is no number of newest tokens" in watch.of(news.Notice)[-1].text
        await watch.say("/tail 64")
        await watch.until(lambda: len(watch.of(news.Notice)) == 2)
        text = watch.of(news.Notice)[-1].text
        assert "attention kernel" in text and "/tail off" in text
        assert watch.session.cache.now.tail == AUTO_TAIL
