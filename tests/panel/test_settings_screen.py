"""Settings in place: stepped, typed, checked, for a scope."""

from __future__ import annotations

import pytest

from app.chat.messages import SettingWanted
from app.chat.screens.ask import AskText
from app.chat.screens.setting_rows import shown, stepped, typed
from app.chat.screens.settings_screen import SettingsScreen
from app.chat.session import Session
from app.store.settings import SETTINGS
from tests.panel.host import Host, until


class ObedientHost(Host):
    """Does what the settings screen wishes, as the application does."""

    def __init__(self, session: Session) -> None:
        self.settings_screen = SettingsScreen(session)
        super().__init__(screen=self.settings_screen)
        self._session = session

    def on_setting_wanted(self, wish: SettingWanted) -> None:
        self._session.set_setting(wish.key, wish.value, wish.scope)


async def go_to(host: ObedientHost, name: str) -> None:
    host.settings_screen._rows.move_to(name)


async def test_a_switch_is_turned_with_enter_and_shows_where_it_holds(session: Session) -> None:
    session.model = "builtin"
    host = ObedientHost(session)
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.pause()
        await go_to(host, "repack")
        await pilot.press("enter")
        await until(pilot, lambda: host.wishes)
        assert [(w.key, w.value, w.scope) for w in host.wishes if isinstance(w, SettingWanted)] == [
            ("repack", False, "model")
        ]
        await until(pilot, lambda: session.settings.repack is False)
        host.settings_screen._reload()
        (line,) = [x for x in host.settings_screen._rows.plain_text.splitlines() if "repack" in x]
        assert line.split() == ["repack", "off", "this", "model"]


async def test_choices_go_round_both_ways(session: Session) -> None:
    host = ObedientHost(session)
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.pause()
        await go_to(host, "thinking")
        await pilot.press("right")
        await until(pilot, lambda: session.settings.thinking == "open")
        await pilot.press("left", "left")
        await until(pilot, lambda: session.settings.thinking == "hidden")


async def test_a_number_is_typed_and_checked_before_it_is_taken(session: Session) -> None:
    host = ObedientHost(session)
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.pause()
        await go_to(host, "temperature")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(host.screen, AskText))
        question = host.screen
        assert isinstance(question, AskText)
        await pilot.press(*"99", "enter")
        assert host.screen is question, "99 does not suit"
        assert "from 0 to 10" in str(question._problem.render())
        await pilot.press("backspace", "backspace", *"0.2", "enter")
        await pilot.pause()
        await until(pilot, lambda: session.settings.temperature == 0.2)
        assert host.screen is host.settings_screen


async def test_the_arrows_leave_numbers_alone(session: Session) -> None:
    host = ObedientHost(session)
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.pause()
        await go_to(host, "top_k")
        await pilot.press("right", "left")
        assert host.screen is host.settings_screen
        assert host.wishes == []


async def test_a_setting_is_reset(session: Session) -> None:
    session.set_setting("seed", 7, "global")
    host = ObedientHost(session)
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.pause()
        await go_to(host, "seed")
        await pilot.press("delete")
        await until(pilot, lambda: session.settings.seed == -1)
        host.settings_screen._reload()
        assert "everywhere" not in next(
            x for x in host.settings_screen._rows.plain_text.splitlines() if "seed" in x
        )


async def test_the_scope_is_chosen_with_tab_and_colours_hold_everywhere(session: Session) -> None:
    session.model = "builtin"
    host = ObedientHost(session)
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.pause()
        await go_to(host, "on_full")
        await pilot.press("tab", "enter")
        await go_to(host, "panel")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: len(host.wishes) == 2)
        wishes = [(w.key, w.scope) for w in host.wishes if isinstance(w, SettingWanted)]
        assert wishes == [("on_full", "global"), ("panel", "global")]


async def test_only_scopes_that_exist_are_offered(session: Session) -> None:
    assert SettingsScreen(session)._scopes == ["global"]
    session.model = "builtin"
    conversation = session.store.new_conversation(title="x", model="builtin")
    session.store.add(conversation.id, "user", "hello")
    session.page.open(conversation.id)
    assert SettingsScreen(session)._scopes == ["conversation", "model", "global"]


async def test_keys_are_changed_in_the_file(session: Session) -> None:
    host = ObedientHost(session)
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.pause()
        await go_to(host, "keys")
        await pilot.press("enter")
        assert "settings.toml" in host.settings_screen._about.plain_text
        assert host.wishes == []


@pytest.mark.parametrize("name", list(SETTINGS))
def test_every_default_is_shown_and_typed_as_it_can_be_read_back(name: str) -> None:
    setting = SETTINGS[name]
    assert shown(setting.default)
    if name != "keys":
        assert setting.parse(typed(setting.default)) == setting.default


@pytest.mark.parametrize("name", list(SETTINGS))
def test_stepping_gives_only_what_suits(name: str) -> None:
    setting = SETTINGS[name]
    value = setting.default
    for step in (1, 1, 1, -1):
        new = stepped(setting, value, step, ["f16", "q8_0"] if setting.cache else ())
        if new is None:
            break
        value = setting.check(new)


async def test_a_hostile_system_prompt_is_only_text(session: Session) -> None:
    session.set_setting("system_prompt", "[red]Be \x1b[31mkind\n", "global")
    host = ObedientHost(session)
    async with host.run_test(size=(100, 44)) as pilot:
        await go_to(host, "system_prompt")
        await pilot.pause()
        rows = host.settings_screen._rows
        drawn = "".join(s.text for y in range(rows.size.height) for s in rows.render_line(y))
        assert "[red]Be" in drawn and "\x1b" not in drawn
