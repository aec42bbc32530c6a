"""The instrument: its figures stand still, its parts add up, it fits where it is put."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.containers import Horizontal
from textual.widgets import Static

from app.chat.losses import NOTHING, Loss, Losses
from app.chat.panel.context_section import fill_style
from app.chat.panel.lines import Density, Lines
from app.chat.panel.memory_panel import MemoryPanel, form_for
from app.chat.panel.memory_section import MemorySection, bar_parts
from app.chat.panel.stretch_view import Columns, Scale
from app.chat.panel.styled import STYLES
from app.engine.protocol import MemoryFigures
from models.stretch_row import StretchRow
from quantize.cache_types import PRESETS
from tests.panel import figures
from tests.panel.figures import GIB, MIB
from tests.panel.host import Host, until


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def panel_in_host(clock: Clock | None = None) -> tuple[Host, MemoryPanel]:
    panel = MemoryPanel(clock=clock or Clock())
    chat = Static("chat")
    chat.styles.width = "1fr"
    return Host(Horizontal(chat, panel)), panel


BYTES = st.integers(0, 40 * GIB)
MEMORIES = st.builds(
    MemoryFigures,
    weights_mapped=BYTES,
    weights_repacked=BYTES,
    kv_predicted=BYTES,
    kv_measured=BYTES,
    compute=BYTES,
    overhead=BYTES,
    predicted_total=BYTES,
    rss=BYTES,
    available=st.integers(0, 16 * GIB),
    total=st.integers(16 * GIB, 17 * GIB),
)


@given(MEMORIES)
def test_the_segments_of_the_bar_are_the_machine(memory: MemoryFigures) -> None:
    parts = bar_parts(memory)
    assert all(n >= 0 for n in parts)
    engine = sum(parts[:-1])
    assert parts[-1] == 0 or engine + parts[-1] <= memory.total
    own = engine - memory.weights_mapped
    if own + memory.available <= memory.total and engine <= memory.available + own:
        # What is not the engine's and not available belongs to others; nothing is counted twice.
        assert parts[-1] == memory.total - memory.available - own


async def test_every_number_keeps_its_place_and_width() -> None:
    host, panel = panel_in_host()
    async with host.run_test(size=(140, 40)) as pilot:
        panel.show_loaded(figures.loaded())
        panel.show_status(figures.status())
        await pilot.pause()
        before = {
            s: s.plain_text.splitlines() for s in (panel.memory, panel.context, panel.speed, panel.stretch)
        }
        panel.show_status(
            figures.status(
                n_used=7,
                memory=figures.memory(rss=12 * GIB, available=11 * MIB, kv_measured=3 * GIB, overhead=0),
                rows=tuple(
                    figures.row(r.type_k, r.type_v, kib=r.bytes_per_token / 1024, max_ctx=r.max_ctx // 9)
                    for r in figures.ROWS
                ),
                prefill_tps=12_345.0,
                generate_tps=0.4,
                first_token_s=125.0,
            )
        )
        await pilot.pause()
        for section, lines in before.items():
            after = section.plain_text.splitlines()
            assert len(after) == len(lines)
            # Right-aligned columns: every line ends where it ended, whatever the figures are.
            for old, new in zip(lines, after, strict=True):
                if old.endswith(("GiB", "MiB", "t/s", " s", *"0123456789")):
                    assert cell_len(new) == cell_len(old), (old, new)


@pytest.mark.parametrize(("n_threads", "note"), ((8, "SPEED"), (5, "5 threads"), (1, "1 thread")))
async def test_threads_that_others_keep_from_computing_are_said(n_threads: int, note: str) -> None:
    host, panel = panel_in_host()
    async with host.run_test(size=(140, 40)) as pilot:
        panel.show_status(figures.status(n_threads=n_threads, most_threads=8))
        await pilot.pause()
        text = panel.speed.plain_text
        assert f"{note} " in text
        assert ("thread" in text) == (n_threads < 8)
        assert all(figure in text for figure in ("412 t/s", "21.4 t/s", "1.3 s"))
        assert max(map(cell_len, text.splitlines())) <= panel.speed.size.width


async def test_nothing_moves_when_the_first_figures_come() -> None:
    host, panel = panel_in_host()
    async with host.run_test(size=(140, 40)) as pilot:
        await pilot.pause()
        places = [w.region for w in panel.children]
        panel.show_loaded(figures.loaded())
        rows = tuple(figures.row(pair.k.name, pair.v.name) for pair in PRESETS)
        panel.show_status(figures.status(rows=rows))
        await pilot.pause()
        assert [w.region for w in panel.children] == places


async def test_a_refresh_with_the_same_figures_paints_nothing() -> None:
    host, panel = panel_in_host()
    async with host.run_test(size=(140, 40)) as pilot:
        panel.show_status(figures.status())
        await pilot.pause()
        painted: list[Any] = []
        for section in (panel.memory, panel.context, panel.stretch, panel.speed):
            refresh = section.refresh

            def remember(*regions: Any, _refresh: Any = refresh, **more: Any) -> Any:
                painted.append(regions)
                return _refresh(*regions, **more)

            section.refresh = remember  # type: ignore[method-assign]
        panel.show_status(figures.status())
        assert painted == []
        panel.show_status(figures.status(n_used=10_241))
        assert len(painted) == 1, "the context section alone"


@pytest.mark.parametrize(("width", "height"), [(140, 40), (120, 30), (80, 24), (60, 20)])
async def test_no_line_is_wider_than_the_panel(width: int, height: int) -> None:
    host, panel = panel_in_host()
    async with host.run_test(size=(width, height)) as pilot:
        panel.show_loaded(figures.loaded())
        refused = figures.row(
            "tq3", refused="tq3 stores blocks of 128 values and this model's heads have 80."
        )
        long_name = figures.row("q5_0", "iq4_nl", kib=1200, max_ctx=12_345_678, tail=256)
        panel.show_status(figures.status(rows=(*figures.ROWS, long_name, refused)))
        await pilot.pause()
        for section in (panel.memory, panel.context, panel.stretch, panel.speed):
            for line in section.plain_text.splitlines():
                assert cell_len(line) <= section.size.width, line


@pytest.mark.parametrize("n_rows", [5, 7])
async def test_the_panel_takes_the_best_form_that_fits(n_rows: int) -> None:
    host, panel = panel_in_host()
    rows = (*figures.ROWS, figures.row("tq3"), figures.row("tq2"))[:n_rows]
    async with host.run_test(size=(140, 50)) as pilot:
        panel.show_status(figures.status(rows=rows))
        await pilot.pause()
        assert panel.stretch.long_bars and panel.stretch.plain_text.count("━━━") >= n_rows
        for height in (38, 34, 33, 30, 28, 24, 22, 18):
            await pilot.resize_terminal(140, height)
            await until(pilot, lambda height=height: panel.size.height == height)
            await pilot.pause()
            assert panel.max_scroll_y == 0, f"all of it is seen in {height} lines"
            assert (panel.stretch.density, panel.stretch.long_bars) == form_for(height, n_rows)
            assert all(section.plain_text.strip() for section in panel.query(Lines) if section.display)


@pytest.mark.parametrize("running", [True, False])
async def test_the_panel_finds_room_for_what_was_measured(running: bool) -> None:
    """The losses stand in a section of their own, or in the rows where lines are scarce."""
    host, panel = panel_in_host()
    rows = (*figures.ROWS, figures.row("tq3"), figures.row("tq2"))
    found = {(r.type_k, r.type_v, r.tail): Loss(0.0123, 0.9) for r in rows if r.type_k != "f16"}
    losses = Losses(found, 900, 1.0, 0.5 if running else -1.0)
    async with host.run_test(size=(140, 50)) as pilot:
        panel.show_status(figures.status(rows=rows))
        panel.show_losses(losses)
        await pilot.pause()
        for height in (38, 34, 30, 28, 24, 22, 18):
            await pilot.resize_terminal(140, height)
            await until(pilot, lambda height=height: panel.size.height == height)
            await pilot.pause()
            assert panel.max_scroll_y == 0, f"all of it is seen in {height} lines"
            assert ".0123" in panel.loss.plain_text + panel.stretch.plain_text
            if panel.loss.density > Density.TIGHT:
                assert ("measuring  50%" if running else "measured ") in panel.loss.plain_text
        panel.show_losses(NOTHING)
        await pilot.pause()
        assert ".0123" not in panel.stretch.plain_text and not panel.loss.display


def test_a_usual_large_terminal_shows_the_long_bars() -> None:
    # 40 lines less the header, the input and the keys.
    assert form_for(34, 5) == (Density.ROOMY, True)
    assert form_for(34, 7) == (Density.AIRY, True)
    assert form_for(18, 7) == (Density.TIGHT, False)


async def test_a_switch_is_marked_in_the_sparkline_with_what_it_gave() -> None:
    clock = Clock()
    host, panel = panel_in_host(clock)
    async with host.run_test(size=(140, 40)) as pilot:
        panel.show_loaded(figures.loaded())
        before = figures.memory(kv_measured=2304 * MIB, rss=4 * GIB)
        for _ in range(8):
            clock.now += 1.0
            panel.show_status(figures.status(type_k="f16", type_v="f16", memory=before))
        clock.now += 1.0
        panel.show_status(figures.status())
        await pilot.pause()
        last = panel.memory.plain_text.splitlines()[-1]
        assert last.endswith("q8_0/q4_0  \N{MINUS SIGN}1.34 GiB")
        top, bottom = panel.memory.plain_text.splitlines()[-3:-1]
        assert top.rstrip().endswith("█") and len(bottom) > len(top), "the step is seen"


async def test_another_model_begins_another_history() -> None:
    clock = Clock()
    host, panel = panel_in_host(clock)
    async with host.run_test(size=(140, 40)) as pilot:
        panel.show_loaded(figures.loaded())
        panel.show_status(figures.status(type_k="f16", type_v="f16"))
        panel.show_loaded(figures.loaded(model=figures.loaded().model.__class__(**{
            **{n: getattr(figures.loaded().model, n) for n in figures.loaded().model.__dataclass_fields__},
            "path": "/models/other.gguf",
        })))  # fmt: skip
        panel.show_status(figures.status())
        await pilot.pause()
        assert panel.memory.history.mark_columns(40) == []


def test_amber_at_80_and_red_at_95_percent() -> None:
    assert [fill_style(n, 1000) for n in (0, 799, 800, 949, 950, 1000)] == [
        "cache", "cache", "warning", "warning", "error", "error",
    ]  # fmt: skip
    assert fill_style(0, 0) == "cache"


@pytest.mark.parametrize(("available", "style"), [(8, "value"), (1, "warning"), (0.4, "error")])
async def test_memory_that_runs_out_is_amber_then_red(available: float, style: str) -> None:
    host, panel = panel_in_host()
    async with host.run_test(size=(140, 40)):
        panel.show_status(figures.status(memory=figures.memory(available=int(available * GIB))))
        head = panel.memory.build(46)[0]
        assert head[-1].style == style


async def test_a_context_beyond_the_trained_length_says_so() -> None:
    host, panel = panel_in_host()
    async with host.run_test(size=(140, 40)):
        panel.context.show(100, 200_000, 131_072)
        assert "beyond the trained 131,072" in panel.context.plain_text


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 16_000_000), st.integers(0, 16_000_000)), min_size=1, max_size=9),
    st.integers(256, 1 << 20),
    st.integers(0, 1 << 20),
)
def test_the_scale_holds_every_length_and_has_a_line_of_names(
    reaches: list[tuple[int, int]], n_ctx: int, trained: int
) -> None:
    rows = [figures.row(max_ctx=max(a, b), trained=max(1, min(a, b))) for a, b in reaches]
    scale = Scale.over(rows, n_ctx, trained)
    assert 0 < scale.low < scale.high
    assert scale.high >= max(n_ctx, trained, *(r.max_ctx_memory for r in rows))
    for n in (n_ctx, trained, *(r.max_ctx for r in rows)):
        assert 0.0 <= scale(n) <= 1.0
        assert 0 <= scale.cell(n, 40) < 40
    for width in (4, 20, 44):
        assert len(scale.axis(width)) == width


def test_the_scale_stands_still_while_the_memory_moves_a_little() -> None:
    def rows(factor: float) -> list[StretchRow]:
        return [figures.row(max_ctx=int(r.max_ctx_memory * factor)) for r in figures.ROWS]

    seen = [Scale.over(rows(1.1), 16_384, 131_072)]
    for change in (1.0, 1.05, 0.95, 1.02, 0.9, 1.1):
        seen.append(Scale.over(rows(change), 16_384, 131_072, seen[-1]))
    assert len(set(seen)) == 1
    assert Scale.over(rows(8), 16_384, 131_072, seen[-1]).high >= 8 * 146_500
    assert Scale.over(rows(0.1), 1024, 8192, seen[-1]).high < 131_072


@given(st.integers(20, 80), st.booleans(), st.booleans())
def test_columns_never_exceed_the_width(width: int, roomy: bool, long_names: bool) -> None:
    rows = list(figures.ROWS)
    if long_names:
        rows.append(figures.row("q8_0", "iq4_nl", tail=1024, max_ctx=12_345_678))
    columns = Columns(rows, width, roomy)
    from app.chat.panel.bars import line_width
    from app.chat.panel.glyphs import SMOOTH

    scale = Scale.over(rows, 16_384, 131_072)
    for row in rows:
        used = line_width(columns.row(row, SMOOTH, 16_384, False))
        used += line_width(columns.small_bar(row, scale, SMOOTH, False, 131_072)) if not roomy else 0
        assert used <= width


async def test_every_style_that_is_drawn_exists() -> None:
    host, panel = panel_in_host()
    async with host.run_test(size=(140, 40)) as pilot:
        panel.show_loaded(figures.loaded())
        panel.show_status(figures.status(n_used=16_000))
        panel.focus_table()
        await pilot.press("down")
        for section in (panel.memory, panel.context, panel.stretch, panel.speed):
            for line in section.build(46):
                for piece in line:
                    assert set(piece.style.replace("|", " ").split()) <= set(STYLES), piece


@pytest.mark.parametrize("theme", ["textual-light", "nord", "gruvbox", "solarized-light", "ansi-light"])
async def test_every_theme_draws_the_panel(theme: str) -> None:
    host, panel = panel_in_host()
    host.theme = theme
    async with host.run_test(size=(140, 40)) as pilot:
        panel.show_status(figures.status(n_used=15_900))
        panel.focus_table()
        await pilot.pause()
        for lines in panel.query(Lines):
            for y in range(lines.size.height):
                for segment in lines.render_line(y):
                    assert segment.style is not None
                    if segment.text.strip() and segment.style.bgcolor is not None:
                        drawn = segment.style.color != segment.style.bgcolor
                        assert drawn or segment.style.color.is_default, segment  # type: ignore[union-attr]


async def test_few_colours_are_helped_by_textures() -> None:
    host, panel = panel_in_host()
    host.theme = "ansi-dark"
    async with host.run_test(size=(140, 40)) as pilot:
        panel.show_status(figures.status())
        await pilot.pause()
        assert panel.memory.textured
        bar = panel.memory.plain_text.splitlines()[1]
        assert len(set(bar)) >= 4, "weights, others and what is free look different without colours"


async def test_without_figures_there_are_dashes() -> None:
    host, panel = panel_in_host()
    async with host.run_test(size=(140, 40)) as pilot:
        await pilot.pause()
        for section in (panel.memory, panel.speed, panel.stretch):
            assert "\N{EN DASH}" in section.plain_text
        panel.show_phase("loading", 0.5)
        assert "loaded: 50%" in panel.stretch.plain_text


def test_the_section_can_be_built_before_it_is_mounted() -> None:
    assert MemorySection().history.columns(3)
