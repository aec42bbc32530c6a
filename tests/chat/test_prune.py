"""Pruning from the chat: shown first, done on Enter, undone, and a policy for the full context."""

from __future__ import annotations

from app.chat import messages as news
from app.chat.screens.prune_preview import PruneDialog, strip
from tests.chat.conftest import Chat
from tests.chat.watch import Watch
from tests.engine.harness import FILLER


def last_notice(watch: Watch) -> str:
    return watch.of(news.Notice)[-1].text


def test_the_strip_is_fuller_where_more_stays() -> None:
    assert strip((1.0, 1.0, 0.0, 0.0), 4) == "██  "
    assert strip((0.0, 0.5, 1.0), 3) == " ▒█"
    assert len(strip(tuple(i / 160 for i in range(160)), 47)) == 47
    assert strip((1.0, 0.0), 6) == "███   "
    assert strip((), 5) == ""


async def test_shown_done_and_undone(chat: Chat) -> None:
    async with chat() as watch:
        await watch.ready()
        await watch.say("My dog is called Rex. " + FILLER * 6)
        await watch.ready()
        await watch.say("/pin My dog is called Rex.")
        assert "Pinned" in last_notice(watch)
        await watch.say("/prune 40%")
        screen = watch.app.screen
        assert isinstance(screen, PruneDialog)
        await watch.until(lambda: screen._shown is not None)
        shown = screen._shown
        assert shown is not None and shown.policy == "kvzip"
        assert "Loss" in str(screen._text.render())
        await watch.pilot.press("enter")
        await watch.until(lambda: bool(watch.of(news.CacheSwitched)) and not watch.session.cache.changing)
        await watch.until(lambda: watch.session.status is not None and watch.session.status.n_gone > 0)
        await watch.pilot.press("f7")
        await watch.until(lambda: len(watch.of(news.CacheSwitched)) == 2)
        await watch.until(lambda: watch.session.status is not None and watch.session.status.n_gone == 0)


async def test_escape_changes_nothing(chat: Chat) -> None:
    async with chat() as watch:
        await watch.ready()
        await watch.say(FILLER * 6)
        await watch.ready()
        await watch.say("/prune 50% lagkv")
        await watch.pilot.press("escape")
        await watch.say("and?")
        await watch.ready()
        assert not watch.of(news.CacheSwitched)
        assert watch.session.status is not None and watch.session.status.n_gone == 0


async def test_a_full_context_is_pruned_by_the_policy(chat: Chat) -> None:
    async with chat(n_ctx=512, on_full="prune") as watch:
        await watch.ready()
        for i in range(4):
            await watch.say(f"{i} {FILLER * 8}")
            await watch.ready()
        assert len(watch.texts("assistant")) == 4 and all(watch.texts("assistant"))
        assert watch.of(news.CacheSwitched)
        assert watch.session.status is not None and watch.session.status.n_used <= 512
