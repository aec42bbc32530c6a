"""The panel in one line."""

from __future__ import annotations

import pytest

from app.chat.panel.panel_line import PanelLine
from tests.panel import figures
from tests.panel.host import Host

FULL = " 7.9/15.4 GiB · ctx 10,240/16,384 (62%) · q8_0/q4_0 · could reach 101,300"


async def test_one_line_says_it_all() -> None:
    line = PanelLine()
    async with Host(line).run_test(size=(100, 10)) as pilot:
        line.show_status(figures.status())
        await pilot.pause()
        assert line.plain_text == f"RAM {FULL}"
        assert line.size.height == 1


@pytest.mark.parametrize("width", [20, 34, 50, 60, 80])
async def test_what_does_not_fit_is_left_out_whole(width: int) -> None:
    line = PanelLine()
    async with Host(line).run_test(size=(width, 10)) as pilot:
        line.show_status(figures.status())
        await pilot.pause()
        parts = line.plain_text.split(" · ")
        assert parts == f"RAM {FULL}".split(" · ")[: len(parts)]
        assert len(line.plain_text) <= width - 2
        assert len(parts) >= 1


async def test_the_numbers_keep_their_places() -> None:
    line = PanelLine()
    async with Host(line).run_test(size=(100, 10)) as pilot:
        line.show_status(figures.status(n_used=3))
        await pilot.pause()
        few = line.plain_text
        line.show_status(figures.status(n_used=16_384))
        assert few.index("/16,384") == line.plain_text.index("/16,384")
        line.show_status(figures.status(n_used=16_000))
        assert few.index("q8_0") == line.plain_text.index("q8_0")


async def test_before_there_are_figures_it_says_what_happens() -> None:
    line = PanelLine()
    async with Host(line).run_test(size=(80, 10)) as pilot:
        await pilot.pause()
        assert "starting" in line.plain_text
        line.show_phase("loading", 0.42)
        assert "loading the model  42%" in line.plain_text
        line.show_phase("stopped")
        assert "no model" in line.plain_text
        line.show_status(figures.status())
        line.show_loaded(figures.loaded())
        assert "RAM" not in line.plain_text, "figures of the model before would be wrong"
