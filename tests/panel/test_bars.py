"""Bars have exactly their width, and their parts the lengths that they stand for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.chat.panel import bars
from app.chat.panel.bars import Line, Piece
from app.chat.panel.glyphs import ASCII, COARSE, SMOOTH, Glyphs, choose

ALL_GLYPHS = st.sampled_from([SMOOTH, COARSE, ASCII])
FRACTIONS = st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=7)
WIDTHS = st.integers(1, 90)


def lengths(line: Line, g: Glyphs, track: str = "track") -> dict[str, float]:
    """Cells of every style, shared cells divided as they are drawn."""
    found: dict[str, float] = {}
    for piece in line:
        front, _, back = piece.style.partition("|")
        for char in piece.text:
            share = (g.parts.index(char) + 1) / (len(g.parts) + 1) if back else 1.0
            found[front] = found.get(front, 0.0) + share
            if back:
                found[back] = found.get(back, 0.0) + 1 - share
    found.pop(track, None)
    return found


@given(FRACTIONS, WIDTHS, ALL_GLYPHS)
def test_segments_fill_the_width_and_sum_to_what_they_stand_for(
    fractions: list[float], width: int, g: Glyphs
) -> None:
    styles = [f"s{i}" for i in range(len(fractions))]
    line = bars.segments(fractions, styles, width, g)
    assert bars.line_width(line) == width
    wanted = min(1.0, sum(fractions)) * width
    step = 1 / (len(g.parts) + 1)
    assert sum(lengths(line, g).values()) == pytest.approx(wanted, abs=step)


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=3), st.integers(20, 90))
def test_every_segment_has_its_length_where_two_share_a_cell(fractions: list[float], width: int) -> None:
    styles = [f"s{i}" for i in range(len(fractions))]
    found = lengths(bars.segments(fractions, styles, width, SMOOTH), SMOOTH)
    for style, fraction in zip(styles, fractions, strict=True):
        # A cell can show two colours: a third part of it goes to its neighbours.
        assert found.get(style, 0.0) == pytest.approx(fraction * width, abs=1.0)


def test_a_segment_on_its_own_has_its_exact_length() -> None:
    for eighths in range(8 * 5 + 1):
        line = bars.bar(eighths / 40, 5, "s", SMOOTH)
        assert lengths(line, SMOOTH).get("s", 0.0) == eighths / 8


@given(FRACTIONS, WIDTHS)
def test_textures_need_no_colours(fractions: list[float], width: int) -> None:
    fills = "ABCDEFG"
    line = bars.segments(fractions, list(fills[: len(fractions)]), width, SMOOTH, fills=fills)
    assert bars.line_width(line) == width
    for piece in line:
        assert "|" not in piece.style
        assert piece.style == "track" or set(piece.text) == {piece.style}


def test_a_bar_bears_anything() -> None:
    for odd in (math.nan, math.inf, -1.0, 5.0):
        assert bars.line_width(bars.bar(odd, 10, "s", SMOOTH)) == 10
    assert bars.bar(0.5, 0, "s", SMOOTH) == ()


@given(st.floats(0, 2), st.floats(0, 2), WIDTHS, ALL_GLYPHS)
def test_a_thin_bar_has_its_width_and_its_length(
    fraction: float, beyond: float, width: int, g: Glyphs
) -> None:
    line = bars.thin_bar(fraction, width, "s", g, beyond)
    assert bars.line_width(line) == width
    filled = sum(
        len(p.text) * (0.5 if p.text and set(p.text) == {g.half_line} else 1.0)
        for p in line
        if p.style == "s"
    )
    assert filled == pytest.approx(min(1.0, fraction) * width, abs=0.5)


@given(st.text("abc", max_size=8), st.integers(-3, 12))
def test_an_overlay_changes_one_cell_only(text: str, x: int) -> None:
    line = (Piece(text, "s"),) if text else ()
    changed = bars.overlay(line, x, Piece("!", "mark"))
    plain = "".join(p.text for p in changed)
    assert plain == "".join("!" if i == x else c for i, c in enumerate(text))


@given(st.lists(st.one_of(st.floats(0, 100), st.just(math.nan)), max_size=60), st.integers(1, 3), ALL_GLYPHS)
def test_a_sparkline_has_a_column_per_value_and_grows_with_it(
    values: list[float], rows: int, g: Glyphs
) -> None:
    lines = bars.sparkline(values, rows, 0, 100, g)
    assert [len(line) for line in lines] == [len(values)] * rows
    heights = [sum(g.heights.index(line[x]) for line in lines) for x in range(len(values))]
    for value, height in zip(values, heights, strict=True):
        assert (height == 0) == math.isnan(value)
    known = sorted((v, h) for v, h in zip(values, heights, strict=True) if v == v)
    assert [h for _, h in known] == sorted(h for _, h in known)


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_the_logarithmic_scale_is_monotone_and_bounded(a: int, b: int) -> None:
    low, high = 256, 10**6
    at, then = bars.log_fraction(min(a, b), low, high), bars.log_fraction(max(a, b), low, high)
    assert 0.0 <= at <= then <= 1.0


def test_every_set_of_glyphs_has_cells_of_one_width() -> None:
    from rich.cells import cell_len

    for g in (SMOOTH, COARSE, ASCII):
        drawn = [g.full, g.track, g.beyond, g.line, g.thin, g.swatch, g.mark, g.tick, g.here, g.dot]
        assert {cell_len(c) for c in [*drawn, *g.parts, *g.heights, *g.textures]} == {1}
        assert len({*g.textures, g.track}) == len(g.textures) + 1
    assert all(
        ord(c) < 128 for c in "".join([ASCII.full, ASCII.track, ASCII.mark, ASCII.tick, *ASCII.textures])
    )


def test_the_terminal_decides_the_glyphs() -> None:
    assert choose("utf-8", "xterm-256color") is SMOOTH
    assert choose("UTF-8", "linux") is COARSE
    assert choose("latin-1", "xterm") is ASCII
    assert choose("ascii", "xterm", "smooth") is SMOOTH
    assert choose(None, "xterm", "nonsense") is SMOOTH
