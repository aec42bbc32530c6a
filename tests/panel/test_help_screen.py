"""The help says what the tables say."""

from __future__ import annotations

from app.chat.commands import COMMANDS
from app.chat.messages import CommandWanted
from app.chat.panel.memory_panel import MemoryPanel
from app.chat.screens.help_screen import HelpScreen, binding_entries, command_entries
from app.chat.session import Session
from tests.panel.host import Host, until


def help_in_host(session: Session) -> tuple[Host, HelpScreen]:
    host = Host(MemoryPanel())
    return host, HelpScreen(session)


async def test_every_command_and_every_key_of_the_panel_is_there(session: Session) -> None:
    host, screen = help_in_host(session)
    async with host.run_test(size=(140, 40)) as pilot:
        await host.push_screen(screen)
        await pilot.pause()
        said = {(e.command.split(" ")[0].split(",")[0], e.summary) for e in screen.entries}
        assert {(f"/{c.name}", c.summary) for c in COMMANDS} <= said
        assert "Switch to this row" in {e.summary for e in screen.entries}, "a key of the table of settings"
        assert "^K" in {e.key for e in screen.entries}


async def test_typing_finds_and_enter_runs(session: Session) -> None:
    host, screen = help_in_host(session)
    async with host.run_test(size=(140, 40)) as pilot:
        await host.push_screen(screen)
        await pilot.press(*"write last", "enter")
        await until(pilot, lambda: host.wishes)
        assert [w.text for w in host.wishes if isinstance(w, CommandWanted)] == ["/regenerate"]


async def test_a_mere_key_is_not_run(session: Session) -> None:
    host, screen = help_in_host(session)
    async with host.run_test(size=(140, 40)) as pilot:
        await host.push_screen(screen)
        await pilot.press(*"switch to this row")
        await pilot.press("enter")
        assert host.wishes == []
        assert host.screen is screen
        await pilot.press("f1")
        await until(pilot, lambda: host.screen is not screen)


async def test_nothing_found_is_said(session: Session) -> None:
    host, screen = help_in_host(session)
    async with host.run_test() as pilot:
        await host.push_screen(screen)
        await pilot.press(*"zzz", "enter")
        assert "Nothing is about 'zzz'." in screen.rows.plain_text


def test_keys_of_the_settings_are_shown_instead_of_the_built_in_ones() -> None:
    entries = {e.name: e.key for e in command_entries({"kv": "ctrl+x"})}
    assert entries["kv"] == "^X"
    assert entries["next"] == "^T"


async def test_keys_that_stand_for_a_command_are_not_said_twice(session: Session) -> None:
    host = Host(MemoryPanel())
    async with host.run_test():
        nodes = [host.screen, *host.screen.walk_children()]
        entries = list(binding_entries(nodes, {}))
        assert len({(e.section, e.key, e.summary) for e in entries}) == len(entries)
        assert not {e.summary for e in entries} & {c.summary for c in COMMANDS}


async def test_the_whole_summary_is_read_at_80_columns(session: Session) -> None:
    host, screen = help_in_host(session)
    async with host.run_test(size=(80, 24)) as pilot:
        await host.push_screen(screen)
        await pilot.press("down", "down")
        assert " ".join(screen._in_full.plain_text.split()).endswith(COMMANDS[2].summary)
