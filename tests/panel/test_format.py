"""Figures keep their widths, and what is written is what is meant."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from app.chat import format

_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}


@given(st.integers(0, 999 * 2**50))
@example(999)
@example(1000)
@example(1023)
@example(1024 * 1023)
@example(round(999.4999 * 2**30))
@example(round(999.5 * 2**30))
def test_a_size_is_short_and_says_what_it_is(n: int) -> None:
    text = format.size(n)
    assert len(text) <= format.SIZE_WIDTH
    number, unit = text.split(" ")
    assert float(number) * _UNITS[unit] == pytest.approx(n, rel=0.0052, abs=0.5)
    if n > 1000:
        assert len(number.replace(".", "")) == 3, "three significant digits"


def test_sizes_as_people_read_them() -> None:
    assert [format.size(n) for n in (0, 31_505_088, 1_095_216_660, 572 * 2**20, 9.996 * 2**30)] == [
        "0 B", "30.0 MiB", "1.02 GiB", "572 MiB", "10.0 GiB",
    ]  # fmt: skip
    assert format.size_change(-(2**30)) == f"{format.MINUS}1.00 GiB"
    assert format.size_change(512 * 2**20) == "+512 MiB"


@given(st.integers(0, 2**45), st.integers(1, 2**45))
def test_a_pair_of_sizes_keeps_its_width_while_the_first_one_moves(part: int, whole: int) -> None:
    part = min(part, whole)
    assert len(format.size_pair(part, whole)) == len(format.size_pair(0, whole))
    assert len(format.size_pair(part, whole)) == len(format.size_pair(whole, whole))


@given(st.integers(0, 10**7), st.integers(1, 10**7))
def test_only_a_full_context_is_a_hundred_percent(used: int, whole: int) -> None:
    used = min(used, whole)
    text = format.percent(used, whole)
    assert (text == "100%") == (used == whole)
    assert len(text) <= 4


def test_percent_of_nothing() -> None:
    assert format.percent(3, 0) == "0%"


@given(st.floats(0, 1e9, allow_nan=False))
def test_a_rate_fits_its_column(per_second: float) -> None:
    assert cell_len(format.rate(per_second)) <= format.RATE_WIDTH


@given(st.floats(-1, 1e6, allow_nan=False))
def test_a_duration_fits_its_column(seconds: float) -> None:
    assert cell_len(format.duration(seconds)) <= 12


def test_durations() -> None:
    shown = [format.duration(s) for s in (0.041, 0.999, 1.31, 9.96, 59.6, 125, 3725)]
    assert shown == ["0.04 s", "1.0 s", "1.3 s", "10 s", "1 min 00 s", "2 min 05 s", "1 h 02 min"]


def test_ages() -> None:
    now = datetime(2026, 3, 15, 12, 0).timestamp()
    ago = {0: "now", 59: "now", 60: "1 min", 7_200: "2 h", 86_400: "yesterday", 3 * 86_400: "3 days"}
    assert {s: format.age(now - s, now) for s in ago} == ago
    assert format.age(datetime(2026, 1, 2, 8, 0).timestamp(), now) == "2 Jan"
    assert format.age(datetime(2024, 12, 31, 8, 0).timestamp(), now) == "31 Dec 2024"


@given(st.text(max_size=40), st.integers(0, 30))
@example("日本語のモデル", 5)
@example("a\u0301bc", 2)
def test_a_clipped_text_fits(text: str, width: int) -> None:
    clipped = format.clip(text, width)
    assert cell_len(clipped) <= width
    if cell_len(text) <= width and width > 0:
        assert clipped == text


@given(st.text(max_size=40), st.integers(1, 30), st.sampled_from("<>"))
def test_a_fitted_text_has_exactly_its_width(text: str, width: int, align: str) -> None:
    assert cell_len(format.fit(text, width, align)) == width


@given(st.text(max_size=60), st.integers(3, 30))
def test_a_text_clipped_in_its_middle_fits(text: str, width: int) -> None:
    assert cell_len(format.clip_middle(text, width)) <= width


def test_a_path_keeps_its_end() -> None:
    assert format.clip_middle("/home/someone/models/qwen3-4b-q4_k_m.gguf", 24).endswith("4b-q4_k_m.gguf")


def test_names_of_settings() -> None:
    assert format.setting("q8_0", "q8_0") == "q8_0"
    assert format.setting("q8_0", "q4_0") == "q8_0/q4_0"
    assert format.setting("tq3", "tq3", 256) == "tq3+256"
