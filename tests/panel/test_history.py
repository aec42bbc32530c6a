"""The history has a column per stretch of time and shows a switch where it happened."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from app.chat.panel.history import History


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 1e9)), max_size=40), st.integers(1, 50))
def test_there_are_always_as_many_columns_as_asked_for(steps: list[tuple[float, float]], width: int) -> None:
    history = History(step=1.5, length=30)
    now = 0.0
    for pause, value in steps:
        now += pause
        history.add(now, value)
    columns = history.columns(width)
    assert len(columns) == width
    known = [c for c in columns if c == c]
    assert all(math.isnan(c) for c in columns[: width - len(known)]), "the newest stand at the right"
    assert set(known) <= {value for _, value in steps}


def test_a_stretch_keeps_its_largest_value_and_a_pause_repeats_the_last() -> None:
    history = History(step=1.0)
    history.add(0.1, 5)
    history.add(0.5, 9)
    history.add(0.9, 7)
    history.add(4.2, 3)
    assert history.columns(5) == [9, 9, 9, 9, 3]


def test_a_switch_is_marked_in_its_column_and_the_drop_is_seen_at_once() -> None:
    history = History(step=1.0)
    history.add(0.5, 100)
    history.add(1.2, 100)
    history.mark(1.4, -60, "q4_0")
    history.add(1.6, 40)
    assert history.columns(3)[1:] == [100, 40]
    ((column, mark),) = history.mark_columns(3)
    assert (column, mark.n_bytes, mark.label) == (2, -60, "q4_0")
    history.add(3.5, 40)
    assert [x for x, _ in history.mark_columns(4)] == [1]
    assert history.mark_columns(2) == []
    history.clear()
    assert history.mark_columns(4) == []
    assert all(math.isnan(v) for v in history.columns(4))
