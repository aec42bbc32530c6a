"""Choosing the length of the context."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import Input

from app.chat.messages import LengthWanted
from app.chat.screens.length_chooser import LengthChooser
from app.chat.screens.lengths import stops
from app.lengths import parse_length, read_length
from models.plan import CELL_STEP, round_up
from quantize.errors import UsageError
from tests.panel import figures
from tests.panel.host import Host, until
from tests.panel.source import Figures


def chooser_in_host(source: Figures | None = None) -> tuple[Host, LengthChooser, Figures]:
    source = source or Figures()
    screen = LengthChooser(source)
    return Host(screen=screen), screen, source


def wanted(host: Host) -> list[int]:
    return [w.n_ctx for w in host.wishes if isinstance(w, LengthWanted)]


async def test_the_arrows_walk_over_lengths_that_people_choose() -> None:
    host, screen, source = chooser_in_host()
    async with host.run_test() as pilot:
        await pilot.press("right")
        assert screen._scale.chosen == 24_576
        await pilot.press("right")
        assert screen._scale.chosen == 32_768
        assert screen.query_one(Input).value == "32,768"
        await until(pilot, lambda: source.asked[-1] == ("", "", 32_768))
        await pilot.press("enter")
        await until(pilot, lambda: wanted(host))
        assert wanted(host) == [32_768]


async def test_it_never_goes_below_what_is_used_or_beyond_what_the_model_knows() -> None:
    host, screen, _ = chooser_in_host()
    async with host.run_test() as pilot:
        await pilot.press("home")
        assert screen._scale.chosen == 10_240
        await pilot.press("left")
        assert screen._scale.chosen == 10_240
        await pilot.press("end", "right")
        assert screen._scale.chosen == 131_072


async def test_a_digit_begins_a_number() -> None:
    host, screen, _ = chooser_in_host()
    async with host.run_test() as pilot:
        await pilot.press("2", "0", "k")
        assert screen.query_one(Input).value == "20k"
        assert screen._scale.chosen == 20_480
        await pilot.press("enter")
        await until(pilot, lambda: wanted(host))
        assert wanted(host) == [20_480]


async def test_nonsense_is_refused_in_place() -> None:
    host, screen, _ = chooser_in_host()
    async with host.run_test() as pilot:
        await pilot.press("tab", *"abc", "enter")
        assert wanted(host) == []
        assert host.screen is screen
        assert screen.query_one(Input).has_class("-invalid")
        assert "Type a number" in screen._preview.plain_text
        await pilot.press("escape")
        await until(pilot, lambda: host.screen is not screen)


async def test_a_click_puts_the_handle_there() -> None:
    host, screen, _ = chooser_in_host()
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.pause()
        scale = screen._scale
        cell = scale._scale().cell(65_536, scale._room(scale.size.width))
        await pilot.click("#length-scale", offset=(12 + cell, 0))
        assert scale.chosen == 65_536


async def test_the_same_length_only_closes() -> None:
    host, screen, _ = chooser_in_host()
    async with host.run_test() as pilot:
        await pilot.press("enter")
        assert wanted(host) == []
        await until(pilot, lambda: host.screen is not screen)


async def test_settings_that_cannot_hold_the_length_are_told_apart() -> None:
    host, screen, _ = chooser_in_host()
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.press("tab", *"60000")
        await pilot.pause()
        lines = screen._scale.build(76)
        reach = {"".join(p.text for p in line).split()[0]: line[-1].style for line in lines[-5:]}
        assert reach["f16"] == "warning" and reach["q8_0"] != "warning"


async def test_a_click_on_a_key_hint_does_what_the_key_does() -> None:
    host, _, _ = chooser_in_host()
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.press("right")
        await pilot.click("KeyHints", offset=(1, 0))
        await until(pilot, lambda: wanted(host))
        assert wanted(host) == [24_576]


async def test_before_a_model_is_loaded_it_can_be_looked_at() -> None:
    host, _, _ = chooser_in_host(Figures(status=None, loaded=None))
    async with host.run_test() as pilot:
        await pilot.press("right", "left", "end", "escape")
        assert wanted(host) == []


@pytest.mark.parametrize("size", [(140, 40), (80, 24), (60, 20)])
async def test_everything_is_inside_the_screen(size: tuple[int, int]) -> None:
    host, screen, _ = chooser_in_host()
    async with host.run_test(size=size) as pilot:
        await pilot.pause()
        for widget in screen.query("*"):
            assert widget.region.right <= size[0] and widget.region.bottom <= size[1], widget


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("16384", 16_384),
        ("16,384", 16_384),
        ("16_384", 16_384),
        (" 16k ", 16_384),
        ("16K", 16_384),
        ("1M", 1_048_576),
        ("1.5k", 1536),
    ],
)
def test_lengths_as_people_write_them(text: str, n: int) -> None:
    assert parse_length(text) == read_length(text) == n


@pytest.mark.parametrize("text", ["", "abc", "-4", "0", "12 34", "1e9", "9" * 400, "k", "٣", "²", "99999999"])
def test_what_is_no_length(text: str) -> None:
    assert read_length(text) is None
    with pytest.raises(UsageError):
        parse_length(text)


@given(st.integers(1, 2**24), st.integers(0, 2**24), st.lists(st.integers(1, 2**24), max_size=3))
def test_the_stops_are_sorted_lengths_between_the_ends(low: int, more: int, extra: list[int]) -> None:
    found = stops(low, low + more, extra)
    assert found == sorted(set(found))
    assert all(n % CELL_STEP == 0 for n in found)
    assert found[0] == round_up(low)
    assert found[-1] <= max(round_up(low), low + more)
    assert {round_up(n) for n in extra if found[0] <= round_up(n) <= found[-1]} <= set(found)


def test_the_figures_of_the_tests_are_what_they_say() -> None:
    assert figures.status().n_ctx == 16_384
