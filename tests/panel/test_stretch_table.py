"""Choosing a row of the table switches to it; moving over the rows asks what that would do."""

from __future__ import annotations

from typing import Any

import pytest

from app.chat.messages import CacheWanted, PanelLeft, PreviewWanted
from app.chat.panel.stretch_table import StretchTable
from app.chat.panel.stretch_view import gain_sentence
from app.engine.protocol import KEEP_TAIL
from tests.panel import figures
from tests.panel.host import Host, until


def table_in_host(**changes: Any) -> tuple[Host, StretchTable]:
    table = StretchTable()
    host = Host(table)
    return host, table


async def test_the_arrows_preview_and_enter_switches() -> None:
    host, table = table_in_host()
    async with host.run_test() as pilot:
        table.show_status(figures.status())
        await pilot.press("tab") if not table.has_focus else None
        table.focus()
        await pilot.press("down")
        assert table.row_under_cursor == figures.ROWS[3], "it starts from the setting in use"
        await pilot.press("down")
        await pilot.press("enter")
        assert [w for w in host.wishes if isinstance(w, PreviewWanted)][-1].type_k == "q4_0"
        await until(pilot, lambda: [w for w in host.wishes if isinstance(w, CacheWanted)])
        (wanted,) = [w for w in host.wishes if isinstance(w, CacheWanted)]
        assert (wanted.type_k, wanted.type_v, wanted.tail, wanted.n_ctx) == ("q4_0", "q4_0", KEEP_TAIL, -1)


async def test_the_setting_in_use_is_marked_and_is_not_switched_to() -> None:
    host, table = table_in_host()
    async with host.run_test() as pilot:
        table.show_status(figures.status())
        table.focus()
        await pilot.press("enter")
        assert not [w for w in host.wishes if isinstance(w, CacheWanted)]
        (marked,) = [line for line in table.plain_text.splitlines() if line.startswith("▸")]
        assert "q8_0/q4_0" in marked
        assert "is in use" in table.plain_text


async def test_a_refused_row_says_why_and_cannot_be_chosen() -> None:
    reason = "tq3 stores blocks of 128 values and this model's heads have 80."
    host, table = table_in_host()
    async with host.run_test() as pilot:
        table.show_status(figures.status(rows=(*figures.ROWS, figures.row("tq3", refused=reason))))
        table.focus()
        await pilot.press("end", "enter")
        assert not [
            w for w in host.wishes if isinstance(w, (CacheWanted, PreviewWanted)) and w.type_k == "tq3"
        ]
        assert " ".join(table.plain_text.split()).endswith(f"tq3: {reason}")


async def test_the_mouse_previews_by_pointing_and_switches_by_a_click() -> None:
    host, table = table_in_host()
    async with host.run_test() as pilot:
        table.show_status(figures.status())
        await pilot.hover(StretchTable, offset=(5, 2))
        assert table.row_under_cursor == figures.ROWS[0]
        await pilot.click(StretchTable, offset=(5, 3))
        await until(pilot, lambda: [w for w in host.wishes if isinstance(w, CacheWanted)])
        (wanted,) = [w for w in host.wishes if isinstance(w, CacheWanted)]
        assert wanted.type_k == "q8_0"
        assert [w.type_k for w in host.wishes if isinstance(w, PreviewWanted)][:1] == ["f16"]


async def test_two_lines_per_row_belong_to_one_row() -> None:
    host, table = table_in_host()
    async with host.run_test() as pilot:
        table.long_bars = True
        table.show_status(figures.status())
        await pilot.pause()
        await pilot.click(StretchTable, offset=(5, 5))
        await until(pilot, lambda: [w for w in host.wishes if isinstance(w, CacheWanted)])
        (wanted,) = [w for w in host.wishes if isinstance(w, CacheWanted)]
        assert wanted.type_k == "q8_0"


async def test_the_engine_s_answer_completes_the_estimate() -> None:
    host, table = table_in_host()
    async with host.run_test() as pilot:
        table.show_status(figures.status())
        table.focus()
        await pilot.press("end")
        assert "frees 288 MiB" in table.plain_text
        table.show_preview(figures.preview())
        assert "Needs 664 MiB for a moment." in table.plain_text
        table.show_preview(figures.preview(through_file=True))
        assert "through a file" in table.plain_text
        table.show_preview(figures.preview(reprefill=True))
        assert "is read again" in " ".join(table.plain_text.split())
        table.show_preview(figures.preview(fits=False, sentence="It does [b]not[/b] fit."))
        assert "It does [b]not[/b] fit." in table.plain_text
        await pilot.press("up")
        assert "fit." not in table.plain_text, "it was about another row"


async def test_the_cursor_stays_on_its_setting_when_the_figures_change() -> None:
    host, table = table_in_host()
    async with host.run_test() as pilot:
        table.show_status(figures.status())
        table.focus()
        await pilot.press("end")
        table.show_status(figures.status(rows=(figures.row("tq2"), *figures.ROWS)))
        assert table.row_under_cursor is not None
        assert table.row_under_cursor.type_k == "q4_0"
        table.show_status(figures.status(rows=figures.ROWS[:2]))
        await pilot.press("down")
        assert table.row_under_cursor in figures.ROWS[:2]


async def test_escape_leaves_the_panel_without_a_change() -> None:
    host, table = table_in_host()
    async with host.run_test() as pilot:
        table.show_status(figures.status())
        table.focus()
        await pilot.press("down", "escape")
        await until(pilot, lambda: host.wishes and isinstance(host.wishes[-1], PanelLeft))
        assert isinstance(host.wishes[-1], PanelLeft)
        assert not [w for w in host.wishes if isinstance(w, CacheWanted)]


async def test_an_empty_table_bears_every_key() -> None:
    host, table = table_in_host()
    async with host.run_test() as pilot:
        table.focus()
        await pilot.press("down", "up", "home", "end", "enter")
        table.show_status(figures.status(rows=()))
        await pilot.press("down", "enter")
        assert not [w for w in host.wishes if isinstance(w, CacheWanted)]


async def test_hostile_texts_are_only_text() -> None:
    host, table = table_in_host()
    async with host.run_test() as pilot:
        evil = figures.row("[red]q", "\x1b]0;owned\x07", refused="\x1b[2J[link=x]click[/link]\nnext")
        table.show_status(figures.status(rows=(evil,)))
        table.focus()
        await pilot.press("home")
        drawn = "".join(s.text for y in range(table.size.height) for s in table.render_line(y))
        assert "\x1b" not in drawn and "\x07" not in drawn and "\n" not in drawn
        assert "[link=x]" in drawn


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (figures.ROWS[4], "frees 288 MiB, reaches 131,072 (+29,772)."),
        (figures.ROWS[0], "takes 1.34 GiB more, reaches 41,200 (\N{MINUS SIGN}60,100)."),
    ],
)
def test_what_a_switch_would_do_in_words(row: Any, words: str) -> None:
    assert gain_sentence(row, figures.ROWS[2]) == words


def test_a_reach_that_the_training_limits_says_so() -> None:
    first = figures.row("f16", kib=8, max_ctx=9_000, trained=8_192)
    second = figures.row("q8_0", kib=4.25, max_ctx=16_000, trained=8_192)
    assert gain_sentence(second, first) == "frees 60.0 MiB, the reach stays 8,192 (trained)."


async def test_what_a_switch_gave_stays_to_be_read() -> None:
    host, table = table_in_host()
    async with host.run_test() as pilot:
        table.show_status(figures.status(type_k="f16", type_v="f16"))
        table.show_note("The cache is changing ...")
        await pilot.pause()
        assert "changing" in table.plain_text
        table.show_outcome("q8_0/q4_0 took 0.2 s.")
        table.show_status(figures.status())
        table.show_note("")
        assert "q8_0/q4_0 took 0.2 s." in table.plain_text
        table.show_note("The model is being loaded: 5%")
        assert "took 0.2 s" not in table.plain_text
        table.clear()
        table.show_note("")
        assert "took 0.2 s" not in table.plain_text


async def test_a_preview_made_before_a_switch_is_not_shown_after_it() -> None:
    host, table = table_in_host()
    async with host.run_test() as pilot:
        table.show_status(figures.status())
        table.focus()
        await pilot.press("end")
        table.show_preview(figures.preview())
        assert "Needs 664 MiB" in table.plain_text
        table.show_status(figures.status(type_k="q8_0", type_v="q8_0"))
        assert "Needs" not in table.plain_text
