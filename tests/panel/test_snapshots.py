"""Pictures of the panel and of every screen over the chat.

After a change that is meant: ``pytest tests/panel/test_snapshots.py --snapshot-update``, then look at them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from textual.app import App
from textual.containers import Horizontal
from textual.pilot import Pilot
from textual.widgets import Static

from app.chat.panel.memory_panel import MemoryPanel
from app.chat.panel.panel_line import PanelLine
from app.chat.screens.ask import Choice, Choose
from app.chat.screens.cache_chooser import CacheChooser
from app.chat.screens.conversation_list import ConversationList
from app.chat.screens.help_screen import HelpScreen
from app.chat.screens.length_chooser import LengthChooser
from app.chat.screens.model_picker import ModelPicker
from app.chat.screens.model_rows import ModelRow
from app.chat.screens.settings_screen import SettingsScreen
from app.chat.session import Session
from quantize.cache_types import AUTO_TAIL
from tests.panel import figures
from tests.panel.figures import MIB
from tests.panel.host import Host, until
from tests.panel.source import Figures

Compare = Callable[..., bool]

SMALL, LARGE, TINY = (80, 24), (140, 40), (60, 20)


def sizes(*wanted: tuple[int, int]) -> Any:
    """A test for each size of the terminal."""
    return pytest.mark.parametrize("size", wanted, ids=[f"{w}x{h}" for w, h in wanted])


class Moments:
    """A clock of which every look is a second later."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 1.0
        return self._now


def instrument(theme: str = "stretch-dark") -> tuple[Host, MemoryPanel, PanelLine]:
    """The panel beside a page, with the line that it folds into below."""
    panel, line = MemoryPanel(clock=Moments()), PanelLine()
    page = Static("")
    page.styles.width = "1fr"
    return Host(Horizontal(page, panel), line, theme=theme), panel, line


def fill(panel: MemoryPanel, line: PanelLine) -> None:
    """A minute of a conversation in which the cache was switched."""
    panel.show_loaded(figures.loaded())
    for i in range(50):
        memory = figures.memory(rss=(2600 + 14 * i) * MIB, kv_measured=2304 * MIB)
        panel.show_status(figures.status(type_k="f16", type_v="f16", n_used=200 * i, memory=memory))
    for i in range(20):
        panel.show_status(figures.status(memory=figures.memory(rss=(1900 + 2 * i) * MIB)))
    line.show_status(figures.status())


@sizes(SMALL, LARGE)
@pytest.mark.parametrize("theme", ["stretch-dark", "stretch-light", "ansi-dark"])
def test_panel(snap_compare: Compare, size: tuple[int, int], theme: str) -> None:
    """The instrument after a switch."""
    host, panel, line = instrument(theme)

    async def before(pilot: Pilot[Any]) -> None:
        fill(panel, line)
        await pilot.pause()

    assert snap_compare(host, run_before=before, terminal_size=size)


def test_panel_with_the_cursor_on_a_row(snap_compare: Compare) -> None:
    """Moving over the rows previews the switch; a row that this model cannot have says why."""
    host, panel, line = instrument()

    async def before(pilot: Pilot[Any]) -> None:
        fill(panel, line)
        refused = figures.row("tq3", refused="tq3 stores blocks of 64 values and this model's heads have 80.")
        panel.show_status(figures.status(rows=(*figures.ROWS, refused), n_used=15_000))
        panel.focus_table()
        await pilot.press("end", "up")
        panel.show_preview(figures.preview())
        await pilot.pause()

    assert snap_compare(host, run_before=before, terminal_size=LARGE)


def test_panel_without_figures(snap_compare: Compare) -> None:
    """While the engine starts."""
    host, panel, _ = instrument()

    async def before(pilot: Pilot[Any]) -> None:
        panel.show_phase("loading", 0.42)
        await pilot.pause()

    assert snap_compare(host, run_before=before, terminal_size=LARGE)


@sizes(TINY, SMALL, LARGE)
def test_cache_chooser(snap_compare: Compare, size: tuple[int, int]) -> None:
    """K and V side by side with the preview."""
    source = Figures(loaded=figures.loaded(tail_wish=AUTO_TAIL))
    host = Host(screen=CacheChooser(source))
    assert snap_compare(host, press=["down", "down"], terminal_size=size)


@sizes(TINY, SMALL, LARGE)
def test_length_chooser(snap_compare: Compare, size: tuple[int, int]) -> None:
    """The scale with the handle beyond what f16 could hold."""
    host = Host(screen=LengthChooser(Figures()), theme="stretch-light")
    assert snap_compare(host, press=["right", "right", "right"], terminal_size=size)


class Shelf:
    """A source with a row of every kind."""

    heading = "On this computer"
    searches = True
    asks_hub = False

    def rows(self, query: str) -> Iterator[ModelRow]:
        fits = "fits, up to 77k tokens at q8_0"
        yield ModelRow(
            "builtin", "builtin", "comes with Stretch", 31_505_088, "MIT", "fits, up to 8k tokens at f16"
        )
        yield ModelRow("/m/a.gguf", "Bonsai-4B-Q1_0", "~/models", 572 * MIB, "apache-2.0", fits)
        yield ModelRow("/m/b.gguf", "Qwen3-4B-Q4_K_M", "owner/repository", 2400 * MIB, "apache-2.0")
        reason = "needs 41.2 GiB, and 7.5 GiB are free"
        yield ModelRow("/m/c.gguf", "Llama-70B-Q4_K_M", "~/models", 40_000 * MIB, "llama3", "", False, reason)
        yield ModelRow("/m/d.gguf", "gemma-3-4b-it-qat", "google", 3200 * MIB, "gemma", progress=0.62)

    def choose(self, row: ModelRow) -> str | None:
        return row.name


@sizes(SMALL, LARGE)
def test_model_picker(snap_compare: Compare, session: Session, size: tuple[int, int]) -> None:
    """A model that fits, one that is being looked at, one that is too large, one that is being fetched."""
    screen = ModelPicker(session, [Shelf()])
    host = Host(screen=screen)

    async def before(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: not screen.looking)
        await pilot.press("down")

    assert snap_compare(host, run_before=before, terminal_size=size)


@sizes(SMALL, LARGE)
def test_conversation_list(snap_compare: Compare, session: Session, size: tuple[int, int]) -> None:
    """A search with its matches marked."""
    for title, said, reply in (
        (
            "A cat named Tom",
            "Tell me a story about a cat",
            "Tom was a cat who liked the sun.\n\nEvery day he slept.",
        ),
        ("Memory", "Why does a cache grow?", "Every token adds a row of keys and one of values."),
        ("Names for pets", "What shall I call my cat?", "Call the cat Ariel."),
    ):
        conversation = session.store.new_conversation(title=title, model="builtin")
        first = session.store.add(conversation.id, "user", said)
        session.store.add(conversation.id, "assistant", reply, parent=first.id)
    screen = ConversationList(session)
    host = Host(screen=screen)

    async def before(pilot: Pilot[Any]) -> None:
        await pilot.press(*"cat", "down")
        await until(pilot, lambda: "Ariel" in screen._end.plain_text or not screen._end.display)

    assert snap_compare(host, run_before=before, terminal_size=size)


@sizes(TINY, SMALL, LARGE)
def test_help(snap_compare: Compare, session: Session, size: tuple[int, int]) -> None:
    """Keys and commands from the tables."""
    assert snap_compare(Host(screen=HelpScreen(session)), press=["down", "down"], terminal_size=size)


@sizes(SMALL, LARGE)
def test_settings(snap_compare: Compare, session: Session, size: tuple[int, int]) -> None:
    """Values, where they come from, and what the one under the cursor means."""
    session.model = "builtin"
    session.set_setting("temperature", 0.2, "model")
    session.set_setting("top_k", 20, "global")
    host = Host(screen=SettingsScreen(session), theme="stretch-light")
    assert snap_compare(host, press=["down"] * 8, terminal_size=size)


def test_choice(snap_compare: Compare) -> None:
    """A small question."""
    choices = [Choice("md", "Markdown", "to read"), Choice("json", "JSON", "to keep and to import")]

    class Asking(Host):
        def on_mount(self) -> None:
            self.push_screen(Choose("Export into ~/notes", choices))

    app: App[None] = Asking()
    assert snap_compare(app, press=["down"], terminal_size=SMALL)
