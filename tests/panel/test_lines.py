"""A widget of lines paints again only the cells that changed, and never reads text as markup."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.geometry import Region

from app.chat.panel.bars import Line, Piece
from app.chat.panel.glyphs import glyphs
from app.chat.panel.lines import Lines, changed_span, sides
from app.chat.panel.memory_panel import MemoryPanel
from tests.panel import figures
from tests.panel.host import Host

LINE = st.lists(
    st.builds(Piece, st.text("ab日", min_size=1, max_size=4), st.sampled_from(["", "value", "muted"])),
    max_size=5,
).map(tuple)


def cells(line: Line) -> list[tuple[str, str]]:
    """Every cell with its style; a wide character fills two."""
    return [(char, p.style) for p in line for char in p.text for _ in range(cell_len(char))]


@given(LINE, LINE)
def test_the_span_covers_every_cell_that_differs(old: Line, new: Line) -> None:
    before, after = cells(old), cells(new)
    longest = max(len(before), len(after))
    differing = [x for x in range(longest) if before[x : x + 1] != after[x : x + 1]]
    span = changed_span(old, new)
    if span is None:
        assert not differing
    else:
        assert all(span[0] <= x < span[1] for x in differing)
        assert span[1] <= longest


def test_a_number_in_the_middle_is_all_that_is_painted() -> None:
    old = (Piece("rss "), Piece(" 1.02", "value"), Piece(" GiB"))
    assert changed_span(old, (Piece("rss "), Piece(" 1.03", "value"), Piece(" GiB"))) == (4, 9)
    assert changed_span(old, old) is None


class Watched(Lines):
    """Remembers what it asked to be painted."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 1
        self.hostile = "[red]x[/] \x1b[31m"
        self.painted: list[Region] = []

    def build(self, width: int) -> list[Line]:
        return [
            (Piece("title"),),
            (Piece("value "), Piece(f"{self.number:>4}", "value")),
            (Piece(self.hostile),),
        ]

    def refresh(self, *regions: Region, **more: Any) -> Any:
        self.painted += regions
        return super().refresh(*regions, **more)


async def test_only_changed_cells_are_painted_again() -> None:
    widget = Watched()
    async with Host(widget).run_test() as pilot:
        await pilot.pause()
        widget.painted.clear()
        widget.redraw()
        assert widget.painted == []
        widget.number = 2
        widget.redraw()
        assert widget.painted == [Region(6, 1, 4, 1)]


async def test_text_is_shown_as_it_is() -> None:
    widget = Watched()
    async with Host(widget).run_test() as pilot:
        await pilot.pause()
        assert widget.plain_text.splitlines()[2].startswith("[red]x[/]")
        line = "".join(segment.text for segment in widget.render_line(2))
        assert "[red]x[/]" in line


async def test_a_terminal_that_knows_only_ascii_gets_only_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRETCH_GLYPHS", "ascii")
    glyphs.cache_clear()
    panel = MemoryPanel()
    async with Host(panel).run_test(size=(60, 40)) as pilot:
        panel.show_loaded(figures.loaded())
        panel.show_status(figures.status(type_k="f16", type_v="f16"))
        panel.show_status(figures.status(generate_tps=0.0))
        await pilot.pause()
        for section in panel.query(Lines):
            drawn = "".join(s.text for y in range(section.size.height) for s in section.render_line(y))
            assert drawn.isascii(), drawn


async def test_the_theme_changes_the_colours_at_once() -> None:
    widget = Watched()
    app = Host(widget)
    async with app.run_test() as pilot:
        await pilot.pause()
        dark = [segment.style for segment in widget.render_line(1)]
        app.theme = "stretch-light"
        await pilot.pause()
        await pilot.pause()
        assert [segment.style for segment in widget.render_line(1)] != dark


async def test_lines_added_later_make_the_widget_higher() -> None:
    class Growing(Lines):
        n = 1

        def build(self, width: int) -> list[Line]:
            return [(Piece("x"),)] * self.n

    widget = Growing()
    async with Host(widget).run_test() as pilot:
        await pilot.pause()
        assert widget.size.height == 1
        widget.n = 3
        widget.redraw()
        await pilot.pause()
        assert widget.size.height == 3


@given(st.text("abc", max_size=10), st.text("def", max_size=10), st.integers(22, 40))
def test_two_sides_reach_both_edges(left: str, right: str, width: int) -> None:
    line = sides((Piece(left),), (Piece(right),), width)
    text = "".join(p.text for p in line)
    assert len(text) == width
    assert text.startswith(left) and text.endswith(right)
