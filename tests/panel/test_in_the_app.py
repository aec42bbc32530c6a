"""The panel and the screens inside the real application, with the real engine."""

from __future__ import annotations

import pytest

from app.chat import messages as news
from app.chat.screens.cache_chooser import CacheChooser
from app.chat.screens.length_chooser import LengthChooser
from app.chat.screens.model_picker import ModelPicker
from app.chat.screens.settings_screen import SettingsScreen
from tests.chat.conftest import Chat, chat, home, small_model
from tests.chat.watch import Watch
from tests.panel.host import until

__all__ = ["chat", "home", "small_model"]  # fixtures

LARGE = (140, 44)


async def with_figures(watch: Watch) -> None:
    """Wait until there is a model and the panel has its figures."""
    await watch.ready()
    await watch.until(lambda: watch.of(news.StatusChanged))
    await watch.pilot.pause()


async def switched(watch: Watch, n: int = 1) -> None:
    """Wait until the cache has changed ``n`` times and the figures have followed."""
    await watch.until(lambda: len(watch.of(news.CacheSwitched)) >= n)
    changed = watch.of(news.CacheSwitched)[-1].changed
    await watch.until(
        lambda: (
            watch.session.status is not None
            and (watch.session.status.type_k, watch.session.status.type_v, watch.session.status.n_ctx)
            == (changed.type_k, changed.type_v, changed.n_ctx)
        )
    )
    await watch.pilot.pause()


async def test_a_row_of_the_table_is_switched_to_and_back(chat: Chat) -> None:
    async with chat(size=LARGE) as watch:
        await watch.say("hello")
        await with_figures(watch)
        panel = watch.app.chat.panel
        panel.focus_table()
        await watch.pilot.press("end")
        row = panel.stretch.row_under_cursor
        assert row is not None and not row.refused
        await until(watch.pilot, lambda: "Needs" in " ".join(panel.stretch.plain_text.split()))
        await watch.pilot.press("enter")
        await switched(watch)
        status = watch.session.status
        assert status is not None
        assert (status.type_k, status.type_v) == (row.type_k, row.type_v)
        current = panel.stretch.current_row
        assert current is not None and current.type_k == row.type_k
        assert status.memory.kv_measured == current.kv_bytes, "the figure of the table is what is allocated"
        await watch.pilot.press("f7")
        await switched(watch, 2)
        assert watch.session.status is not None
        assert watch.session.status.type_k == "f16"
        await watch.pilot.press("escape")
        assert watch.app.chat.composer.has_focus


async def test_the_chooser_asks_the_engine_and_switches(chat: Chat) -> None:
    async with chat(size=LARGE) as watch:
        await with_figures(watch)
        await watch.pilot.press("ctrl+k")
        screen = watch.app.screen
        assert isinstance(screen, CacheChooser)
        await watch.pilot.press("down", "down", "tab", "down", "down", "down")
        chosen = screen.types
        await until(watch.pilot, lambda: "nothing is read again" in screen._preview.plain_text)
        await watch.pilot.press("enter")
        await switched(watch)
        assert watch.session.status is not None
        assert (watch.session.status.type_k, watch.session.status.type_v) == chosen


async def test_the_length_is_changed_and_a_refusal_of_the_engine_is_shown(chat: Chat) -> None:
    async with chat(size=LARGE) as watch:
        await with_figures(watch)
        await watch.pilot.press("ctrl+l", *"900k")
        screen = watch.app.screen
        assert isinstance(screen, LengthChooser)
        await until(watch.pilot, lambda: "trained" in screen._preview.plain_text)  # the engine says why not
        await watch.pilot.press("tab", "left", "left")
        wanted = screen._scale.chosen
        await watch.pilot.press("enter")
        await switched(watch)
        assert watch.session.status is not None
        assert watch.session.status.n_ctx == wanted


async def test_another_model_is_loaded_from_the_picker(chat: Chat) -> None:
    async with chat(size=LARGE) as watch:
        await with_figures(watch)
        await watch.pilot.press("ctrl+o", *"ternary")
        screen = watch.app.screen
        assert isinstance(screen, ModelPicker)
        await until(watch.pilot, lambda: screen.rows.keys[:1] == ["builtin-ternary"] and not screen.looking)
        await watch.pilot.press("enter")
        await watch.until(lambda: len(watch.of(news.ModelChanged)) == 2)
        assert watch.session.loaded is not None
        assert "ternary" in watch.session.loaded.model.path


@pytest.mark.parametrize("size", [(60, 20), LARGE], ids=["60x20", "140x44"])
async def test_escape_always_goes_back_to_the_input(chat: Chat, size: tuple[int, int]) -> None:
    async with chat(size=size) as watch:
        for key in ("ctrl+k", "ctrl+l", "ctrl+o", "ctrl+r", "f1", "f3", "f4"):
            await watch.pilot.press(key)
            await watch.pilot.pause()
            assert watch.app.screen is not watch.app.chat, key
            for widget in watch.app.screen.query("*"):
                assert widget.region.right <= size[0] and widget.region.bottom <= size[1], (key, widget)
            await watch.pilot.press("escape")
            await watch.pilot.pause()
            assert watch.app.screen is watch.app.chat, key
            assert watch.app.chat.composer.has_focus, key


async def test_a_setting_takes_effect_while_the_screen_is_open(chat: Chat) -> None:
    async with chat(size=LARGE) as watch:
        await watch.pilot.press("f4")
        screen = watch.app.screen
        assert isinstance(screen, SettingsScreen)
        screen._rows.move_to("theme")
        before = watch.app.theme
        await watch.pilot.press("right")
        await watch.pilot.pause()
        assert watch.app.theme != before
        await watch.pilot.press("delete")
        await watch.pilot.pause()
        assert watch.app.theme == before


async def test_in_a_narrow_terminal_the_panel_opens_over_the_page_and_folds_again(chat: Chat) -> None:
    async with chat(size=(80, 24)) as watch:
        await with_figures(watch)
        panel, line = watch.app.chat.panel, watch.app.chat.panel_line
        assert not panel.display and line.display
        assert "could reach" in line.plain_text
        await watch.pilot.press("ctrl+g")
        await watch.pilot.pause()
        assert panel.display and panel.stretch.has_focus
        assert panel.max_scroll_y == 0
        await watch.pilot.press("escape")
        await watch.pilot.pause()
        assert not panel.display
        assert watch.app.chat.composer.has_focus
