"""Lists to choose from."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from app.chat.panel.bars import Line, Piece
from app.chat.screens.row_list import Row, RowList
from tests.panel.host import Host


def row(key: str, height: int = 1, selectable: bool = True) -> Row:
    def draw(width: int) -> Sequence[Line]:
        return [(Piece(f"{key} line {i}"),) for i in range(height)]

    return Row(key, draw, height, selectable)


class Listener(Host):
    """Keeps what a list says."""

    def __init__(self, rows: RowList) -> None:
        super().__init__(rows)
        self.said: list[tuple[str, str]] = []

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        self.said.append(("moved", message.key))

    def on_row_list_chosen(self, message: RowList.Chosen) -> None:
        self.said.append(("chosen", message.key))


GROUPS = [row("A", selectable=False), row("a1", 2), row("a2", 2), row("B", 2, selectable=False), row("b1", 2)]


async def test_headings_are_passed_over() -> None:
    rows = RowList()
    host = Listener(rows)
    async with host.run_test(size=(40, 20)) as pilot:
        rows.set_rows(GROUPS)
        rows.focus()
        assert rows.cursor_key == "a1"
        await pilot.press("down", "down")
        assert rows.cursor_key == "b1"
        await pilot.press("down")
        assert rows.cursor_key == "b1", "it does not go round"
        await pilot.press("home", "enter")
        assert host.said[-1] == ("chosen", "a1")


async def test_a_click_moves_and_a_second_one_chooses() -> None:
    rows = RowList()
    host = Listener(rows)
    async with host.run_test(size=(40, 20)) as pilot:
        rows.set_rows(GROUPS)
        await pilot.pause()
        await pilot.click(RowList, offset=(3, 4))
        assert host.said[-1] == ("moved", "a2")
        await pilot.click(RowList, offset=(3, 3))
        await pilot.pause()
        assert host.said[-1] == ("chosen", "a2")
        await pilot.click(RowList, offset=(3, 0))
        await pilot.click(RowList, offset=(3, 15))
        assert rows.cursor_key == "a2", "headings and empty space cannot be chosen"


@pytest.mark.parametrize("seed", range(3))
async def test_the_cursor_is_always_seen_and_on_a_row(seed: int) -> None:
    chance = random.Random(seed)
    rows = RowList()
    host = Listener(rows)
    async with host.run_test(size=(40, 9)) as pilot:
        some = [row(f"r{i}", chance.choice((1, 2)), chance.random() < 0.8) for i in range(60)]
        rows.set_rows(some)
        rows.focus()
        await pilot.pause()
        for _ in range(25):
            await pilot.press(chance.choice(("up", "down", "pageup", "pagedown", "home", "end")))
            index = next(i for i, r in enumerate(some) if r.key == rows.cursor_key)
            assert some[index].selectable
            top = sum(r.height for r in some[:index])
            assert rows.scroll_offset.y <= top
            assert top + some[index].height <= rows.scroll_offset.y + rows.size.height


async def test_the_cursor_stays_on_its_key_when_rows_change() -> None:
    rows = RowList()
    host = Listener(rows)
    async with host.run_test() as pilot:
        rows.set_rows([row(k) for k in "abcd"])
        rows.move_to("c")
        rows.set_rows([row(k) for k in "xcab"])
        assert rows.cursor_key == "c"
        rows.set_rows([row(k) for k in "xy"])
        assert rows.cursor_key == "x"
        rows.set_rows([])
        await pilot.pause()
        assert rows.cursor_key == ""
        assert host.said[-1] == ("moved", "")


async def test_only_what_is_seen_is_drawn() -> None:
    drawn: list[str] = []

    def counted(key: str) -> Row:
        def draw(width: int) -> Sequence[Line]:
            drawn.append(key)
            return [(Piece(key),)]

        return Row(key, draw)

    rows = RowList()
    async with Listener(rows).run_test(size=(40, 10)) as pilot:
        rows.set_rows([counted(f"{i}") for i in range(5000)])
        await pilot.pause()
        assert 0 < len(set(drawn)) <= 12


async def test_an_empty_list_bears_every_key() -> None:
    rows = RowList()
    async with Listener(rows).run_test() as pilot:
        rows.focus()
        await pilot.press("up", "down", "home", "end", "pageup", "pagedown", "enter")
        assert rows.cursor_key == ""
