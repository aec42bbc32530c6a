"""What a setting costs on the model, wherever a setting is chosen; pictures at three sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.containers import Horizontal
from textual.pilot import Pilot
from textual.widgets import Static

from app.chat.cache_control import presets
from app.chat.losses import Loss, Losses
from app.chat.messages import CacheWanted
from app.chat.panel.memory_panel import MemoryPanel
from app.chat.panel.stretch_table import StretchTable
from app.chat.screens.ask import Choice, Choose
from app.chat.screens.cache_chooser import CacheChooser
from app.chat.transcript.full_choice import FullChoice
from app.engine.protocol import ContextFull, FullOption
from tests.panel import figures
from tests.panel.host import Host, until
from tests.panel.source import Figures

Compare = Callable[..., bool]

SIZES = pytest.mark.parametrize("size", [(60, 20), (80, 24), (140, 40)], ids=["60x20", "80x24", "140x40"])

FULL = ContextFull(
    9,
    2_100,
    2_048,
    (
        FullOption(
            "smaller",
            "Store the cache as q8_0/tq3+256 and lengthen the context to 4,096 tokens: each token takes "
            "39% of the memory, as good as exact (KLD 0.0037, the next word differs in 4%).",
            "q8_0",
            "tq3",
            4_096,
        ),
        FullOption("drop", "Leave out the 4 oldest messages: the model forgets them.", n_ctx=2_048, n_drop=4),
    ),
)


def table_lines(table: StretchTable) -> dict[str, str]:
    return {line.split()[0].strip("▸"): line for line in table.plain_text.splitlines() if line.strip()}


async def test_the_table_says_what_a_setting_costs() -> None:
    table = StretchTable()
    host = Host(table)
    async with host.run_test(size=(50, 30)) as pilot:
        table.long_bars = True
        table.show_status(figures.status(rows=figures.broken_rows(), type_k="f16", type_v="f16"))
        await pilot.pause()
        lines = table_lines(table)
        assert "exact .0037" in " ".join(lines["q8_0/tq3+256"].split())
        assert "~visible .130" in " ".join(lines["tq4/tq3+256"].split())
        assert "breaks 1.78" in " ".join(lines["tq3+256"].split())
        table.focus()
        await pilot.press("end")
        text = " ".join(table.plain_text.split())
        assert "Breaks this model (KLD 2.6, the next word differs in 66%)." in text
        table.show_preview(figures.preview("tq4", "tq4", tail=256, warning=figures.warning()))
        await pilot.pause()
        assert "q8_0/tq3+256 takes 4.69 KiB a token" in " ".join(table.plain_text.split())


async def test_what_was_measured_on_the_chat_goes_before() -> None:
    table = StretchTable()
    host = Host(table)
    async with host.run_test(size=(50, 30)) as pilot:
        table.long_bars = True
        table.show_status(figures.status(rows=figures.broken_rows()))
        table.show_losses(Losses({("tq3", "tq3", 256): Loss(0.05, 0.9)}, 900, 1.0))
        await pilot.pause()
        assert "visible .0500" in " ".join(table_lines(table)["tq3+256"].split())


def test_what_breaks_the_model_is_no_preset() -> None:
    assert presets(figures.broken_rows()) == [
        ("f16", "f16"),
        ("q8_0", "tq3"),
        ("q8_0", "q8_0"),
        ("tq4", "tq3"),
    ]


async def test_the_chooser_puts_the_least_loss_first_once() -> None:
    screen = CacheChooser(Figures(breaks_below=8.0))
    host = Host(screen=screen)
    async with host.run_test(size=(140, 40)) as pilot:
        keys = screen._keys
        await until(pilot, lambda: "~breaks" in keys.plain_text)
        assert keys.keys.index("tq2") > keys.keys.index("q8_0")
        before = keys.keys
        await pilot.press("end")
        await until(pilot, lambda: "K in q1_0 breaks" in screen._preview.plain_text)
        assert keys.keys == before
        await pilot.press("enter")
        await until(pilot, lambda: [w for w in host.wishes if isinstance(w, CacheWanted)])


@SIZES
def test_panel(snap_compare: Compare, size: tuple[int, int]) -> None:
    """A model that few bits of K break: measured, one row still estimated."""
    panel, page = MemoryPanel(clock=iter(float(i) for i in range(999)).__next__), Static("")
    page.styles.width = "1fr"
    host = Host(Horizontal(page, panel))

    async def before(pilot: Pilot[Any]) -> None:
        panel.show_loaded(figures.loaded())
        panel.show_status(figures.status(rows=figures.broken_rows(), type_k="f16", type_v="f16"))
        panel.focus_table()
        await pilot.press("end", "up")
        await pilot.pause()

    assert snap_compare(host, run_before=before, terminal_size=size)


@SIZES
def test_chooser(snap_compare: Compare, size: tuple[int, int]) -> None:
    """The cursor of K on a type that breaks the model."""
    screen = CacheChooser(Figures(breaks_below=8.0))

    async def before(pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: "~" in screen._keys.plain_text)
        await pilot.press("end")
        await until(pilot, lambda: "K in q1_0 breaks" in screen._preview.plain_text)

    assert snap_compare(Host(screen=screen), run_before=before, terminal_size=size)


@SIZES
def test_question(snap_compare: Compare, size: tuple[int, int]) -> None:
    """Before a setting that breaks the model is taken."""
    choices = (
        Choice("no", "no", "the cache stays as it is"),
        Choice("yes", "yes", "q4_0 all the same"),
    )
    screen = Choose(figures.warning(), choices)
    assert snap_compare(Host(screen=screen), terminal_size=size)  # type: ignore[arg-type]


@SIZES
def test_full_context(snap_compare: Compare, size: tuple[int, int]) -> None:
    """The ways out of a full context, with what each costs."""

    async def before(pilot: Pilot[Any]) -> None:
        pilot.app.query_one(FullChoice).focus()
        await pilot.pause()

    assert snap_compare(Host(FullChoice(FULL)), run_before=before, terminal_size=size)
