"""A setting that breaks the model: asked before it is taken, never a preset, and said when it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.chat import messages as news
from app.chat.screens.ask import Choose
from tests.chat.conftest import Chat
from tests.chat.watch import Watch
from tests.panel.host import until
from tests.synthetic import SyntheticModels


@pytest.fixture(autouse=True)
def stock_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp's own, which stores K with its constant: few bits break the made model."""
    monkeypatch.setenv("STRETCH_KERNEL", "stock")


@pytest.fixture
def huge_bias(synthetic: SyntheticModels) -> Path:
    return synthetic("huge_bias_qwen2", endless=True)


async def ready(watch: Watch) -> None:
    await watch.until(lambda: watch.session.phase == "ready" and watch.session.status is not None)


def said(watch: Watch) -> str:
    """All lines that came into the conversation."""
    lines = [notice.text for notice in watch.of(news.Notice)]
    return " ".join((*lines, *(switched.changed.sentence for switched in watch.of(news.CacheSwitched))))


def measured(watch: Watch) -> bool:
    status = watch.session.status
    return status is not None and all(row.loss.measured for row in status.rows)


async def asked(watch: Watch) -> Choose:
    await watch.until(lambda: watch.of(news.LossQuestion))
    await until(watch.pilot, lambda: isinstance(watch.app.screen, Choose))
    screen = watch.app.screen
    assert isinstance(screen, Choose)
    return screen


async def test_it_asks_and_no_leaves_the_cache(chat: Chat, huge_bias: Path) -> None:
    async with chat(model=huge_bias) as watch:
        await ready(watch)
        watch.app.commander.run("/kv q4_0")
        screen = await asked(watch)
        assert screen._heading.startswith("K in q4_0 probably breaks this model")
        await watch.pilot.press("enter")
        await until(watch.pilot, lambda: not isinstance(watch.app.screen, Choose))
        assert watch.session.cache.now.type_k == "f16"
        assert not watch.session.cache.changing


async def test_yes_takes_it_and_the_summary_says_so(chat: Chat, huge_bias: Path) -> None:
    async with chat(model=huge_bias) as watch:
        await ready(watch)
        watch.app.commander.run("/kv q4_0")
        await asked(watch)
        await watch.pilot.press("down", "enter")
        await watch.until(lambda: watch.session.cache.now.type_k == "q4_0")
        await watch.until(lambda: "The cache is now q4_0: probably breaks this model" in said(watch))


async def test_the_key_never_comes_to_it(chat: Chat, huge_bias: Path) -> None:
    async with chat(model=huge_bias) as watch:
        await ready(watch)
        seen = set()
        for _ in range(8):
            watch.session.next_preset()
            await watch.until(lambda: not watch.session.cache.changing)
            seen.add(watch.session.cache.now.type_k)
        assert "q8_0" in seen
        assert seen <= {"f16", "q8_0"}
        assert not isinstance(watch.app.screen, Choose)


async def test_a_model_that_is_loaded_with_it_says_so(chat: Chat, huge_bias: Path) -> None:
    async with chat(model=huge_bias, type_k="tq2", type_v="tq2") as watch:
        await ready(watch)
        await watch.until(lambda: "K in tq2 probably breaks this model" in said(watch))


async def test_measure_without_a_conversation_measures_the_model(chat: Chat, huge_bias: Path) -> None:
    async with chat(model=huge_bias) as watch:
        await ready(watch)
        watch.app.commander.run("/measure")
        await watch.until(lambda: measured(watch))
        watch.app.commander.run("/kv tq3")
        assert "of the next words stay the same" in (await asked(watch))._heading
