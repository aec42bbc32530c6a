"""Choosing the types of K and V."""

from __future__ import annotations

from typing import Any

import pytest

from app.chat.messages import CacheWanted
from app.chat.screens.cache_chooser import CacheChooser, going_up
from app.engine.protocol import KEEP_TAIL
from quantize.cache_types import AUTO_TAIL
from tests.panel import figures
from tests.panel.host import Host, until
from tests.panel.source import Figures


def chooser_in_host(source: Figures | None = None) -> tuple[Host, CacheChooser, Figures]:
    source = source or Figures()
    screen = CacheChooser(source)
    return Host(screen=screen), screen, source


async def test_k_and_v_are_chosen_separately() -> None:
    host, screen, source = chooser_in_host()
    async with host.run_test() as pilot:
        await pilot.pause()
        assert screen.types == ("q8_0", "q4_0"), "it begins with the setting in use"
        await pilot.press("down", "tab", "up")
        assert screen.types == ("q5_1", "q4_1")
        await until(pilot, lambda: source.asked[-1] == ("q5_1", "q4_1", -1))
        await pilot.press("enter")
        await until(pilot, lambda: host.wishes)
        (wish,) = host.wishes
        assert isinstance(wish, CacheWanted)
        assert (wish.type_k, wish.type_v, wish.reprefill) == ("q5_1", "q4_1", False)
        await until(pilot, lambda: not isinstance(host.screen, CacheChooser))


async def test_one_key_gives_both_the_same_type() -> None:
    host, screen, _ = chooser_in_host()
    async with host.run_test() as pilot:
        await pilot.press("tab", "equals_sign")
        assert screen.types == ("q4_0", "q4_0")


async def test_escape_changes_nothing() -> None:
    host, screen, _ = chooser_in_host()
    async with host.run_test() as pilot:
        await pilot.press("down", "escape")
        assert host.wishes == []
        await until(pilot, lambda: host.screen is not screen)


async def test_enter_on_the_present_setting_only_closes() -> None:
    host, screen, _ = chooser_in_host()
    async with host.run_test() as pilot:
        await pilot.press("enter")
        assert host.wishes == []
        await until(pilot, lambda: host.screen is not screen)


async def test_the_window_is_chosen_below_the_types() -> None:
    """Tab goes on to it, left and right move; what it comes to with these types is said beside it."""
    host, screen, _ = chooser_in_host(Figures(loaded=figures.loaded(tail_wish=AUTO_TAIL)))
    async with host.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: "newest 256 tokens" in screen._tail.plain_text)
        assert "[auto]" in screen._tail.plain_text and screen.tail == AUTO_TAIL
        await pilot.press("tab", "tab", "right", "right", "right")
        await until(pilot, lambda: "newest 128 tokens" in screen._tail.plain_text)
        assert "q8_0/q4_0+128" in screen._preview.plain_text
        await pilot.press("tab", "home", "down", "tab", "home", "down")
        assert screen.types == ("f16", "f16")
        await until(pilot, lambda: "every token is exact" in screen._tail.plain_text)
        await pilot.press("shift+tab", "end", "enter")
        await until(pilot, lambda: host.wishes)
        (wish,) = host.wishes
        assert isinstance(wish, CacheWanted)
        assert (wish.type_v, wish.tail) == ("f16", 128)


async def test_a_window_alone_is_a_change_and_no_wish_leaves_it() -> None:
    loaded = figures.loaded(tail_wish=100)
    host, screen, _ = chooser_in_host(Figures(loaded=loaded))
    async with host.run_test(size=(100, 40)) as pilot:
        await until(pilot, lambda: "[100]" in screen._tail.plain_text)
        await pilot.press("down", "enter")
        await until(pilot, lambda: host.wishes)
        (wish,) = host.wishes
        assert isinstance(wish, CacheWanted) and wish.tail == KEEP_TAIL
    host, screen, _ = chooser_in_host(Figures(loaded=figures.loaded(tail_wish=AUTO_TAIL)))
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.pause()
        assert await pilot.click("#tail", offset=(19, 0))
        assert screen.tail == 0 and "no token" in screen._tail.plain_text
        await pilot.press("enter")
        await until(pilot, lambda: host.wishes)
        (wish,) = host.wishes
        assert isinstance(wish, CacheWanted)
        assert (wish.type_k, wish.type_v, wish.tail) == ("q8_0", "q4_0", 0)


async def test_the_exact_way_is_asked_for() -> None:
    host, _, _ = chooser_in_host()
    async with host.run_test() as pilot:
        await pilot.press("up", "r")
        await until(pilot, lambda: host.wishes)
        (wish,) = host.wishes
        assert isinstance(wish, CacheWanted)
        assert (wish.type_k, wish.type_v, wish.reprefill) == ("bf16", "q4_0", True)


async def test_the_preview_shows_what_is_gained_and_needed() -> None:
    host, screen, source = chooser_in_host()
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.press("down", "down", "down", "down")
        await until(pilot, lambda: "648 MiB" in screen._preview.plain_text)
        text = screen._preview.plain_text
        assert screen.types == ("q4_0", "q4_0")
        before, after = source.bytes_of("q8_0", "q4_0", 16_384), source.bytes_of("q4_0", "q4_0", 16_384)
        assert "936 MiB" in text and "648 MiB" in text and "\N{MINUS SIGN}288 MiB" in text
        assert before - after == 288 * figures.MIB
        assert "131,072" in text and "7.50 GiB available" in text
        assert "nothing is read again" in text


async def test_a_refusal_is_said_in_words() -> None:
    host, screen, _ = chooser_in_host(Figures(refuse=True))
    async with host.run_test() as pilot:
        await pilot.press("down")
        refusal = "There is no memory for this. Choose a smaller type."
        await until(pilot, lambda: refusal in screen._preview.plain_text)


async def test_what_does_not_fit_and_what_goes_through_a_file_is_said() -> None:
    source = Figures(budget=700 * figures.MIB)
    host, screen, _ = chooser_in_host(source)
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.press("up")
        await until(pilot, lambda: "does not fit" in screen._preview.plain_text)
        await pilot.press("end")
        await until(pilot, lambda: "temporary file" in screen._preview.plain_text)


async def test_types_that_the_heads_cannot_have_are_not_chosen() -> None:
    model = figures.loaded().model
    fields = {n: getattr(model, n) for n in type(model).__dataclass_fields__}
    odd = type(model)(**{**fields, "head_dim_k": 80, "head_dim_v": 80})
    host, screen, _ = chooser_in_host(Figures(loaded=figures.loaded(model=odd)))
    async with host.run_test(size=(100, 40)) as pilot:
        await pilot.pause()
        assert "q8_0" not in screen._keys.keys, "80 is no multiple of 32"
        assert screen._keys.keys == ["f32", "f16", "bf16"]
        assert "not with these heads" in screen._keys.plain_text


async def test_before_a_model_is_loaded_it_can_be_looked_at() -> None:
    host, screen, _ = chooser_in_host(Figures(status=None, loaded=None))
    async with host.run_test() as pilot:
        await pilot.press("down", "tab")
        await pilot.pause()
        assert screen.types == ("bf16", "f16")


@pytest.mark.parametrize("size", [(140, 40), (80, 24), (60, 20)])
async def test_everything_is_inside_the_screen(size: tuple[int, int]) -> None:
    host, screen, _ = chooser_in_host()
    async with host.run_test(size=size) as pilot:
        await pilot.pause()
        for widget in screen.query("*"):
            region: Any = widget.region
            assert region.right <= size[0] and region.bottom <= size[1], widget
        assert screen._keys.size.height >= 3
        assert screen._preview.size.height >= 7


def test_going_up_says_that_precision_is_gone() -> None:
    assert "stays lost" in going_up("q4_0", "q4_0", "q8_0", "q4_0")
    assert going_up("f16", "f16", "q8_0", "q4_0") == "It can be undone."
    assert going_up("f16", "f16", "unheard", "of") == ""
