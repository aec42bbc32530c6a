"""The number of threads that is fastest, on made-up machines; and that it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.cores import Cores
from app.engine.thread_book import Measured, ThreadBook, _write
from app.engine.thread_choice import NEARLY, best_of, search
from quantize.llama import Context, Model, send_log_to
from tests.synthetic import SyntheticModels


def machine(work: float, waiting: float, serial: float = 0.0) -> dict[int, float]:
    """Rates of 1 to 64 threads: work that is divided, and waiting that grows with each thread."""
    return {n: 1 / (serial + work / n + waiting * n) for n in range(1, 65)}


@given(st.integers(1, 64), st.floats(0.01, 10), st.floats(0.0, 0.1), st.floats(0.0, 0.2))
def test_nothing_that_was_not_tried_is_much_faster(
    most: int, work: float, waiting: float, serial: float
) -> None:
    rates = machine(work, waiting, serial)
    tried = search(lambda n: rates[n], most)
    best = max(rates[n] for n in range(1, most + 1))
    assert rates[best_of(tried, 1)] >= 0.93 * best
    assert len(tried) <= 12


def test_a_small_model_and_a_large_one() -> None:
    small, large = machine(1.0, 0.08), machine(100.0, 0.01)
    assert best_of(search(lambda n: small[n], 16), 16) in (3, 4)
    assert best_of(search(lambda n: large[n], 16), 16) == 16


def test_without_time_the_first_number_stands() -> None:
    """It is tried first, and is all cores: right for a model that takes so long."""
    times = iter((50.0, None))
    assert best_of(search(lambda n: next(times), 16), 4) == 16
    assert best_of(search(lambda n: None, 16), 4) == 4


@given(st.dictionaries(st.integers(1, 64), st.floats(1, 100), min_size=1))
def test_the_smallest_of_the_nearly_fastest(rates: dict[int, float]) -> None:
    best = best_of(rates, 1)
    assert rates[best] >= NEARLY * max(rates.values())
    assert all(rate < NEARLY * max(rates.values()) for n, rate in rates.items() if n < best)


@pytest.fixture(scope="module")
def model(synthetic: SyntheticModels) -> Model:
    send_log_to(lambda _level, _text: None)
    return Model(synthetic("llama"))


def choose(book: ThreadBook, model: Model, stopped: bool = False) -> str:
    with Context(model, n_ctx=256) as context:
        why = book.choose(model.path, "stock", context, 5, lambda: stopped).why
        assert context.decode([5], 0) == 0  # the cache is empty
    return why


def test_each_number_is_tried(tmp_path: Path, model: Model) -> None:
    book = ThreadBook(tmp_path, Cores(2, 2))
    with Context(model, n_ctx=256) as context:
        measured, _ = book._measure(model.path, "stock", context, 5, lambda: False)
    for rates in (measured.writing, measured.reading):  # one is enough where the machine has no time
        assert {2} <= set(rates) <= {1, 2} and min(rates.values()) > 0


def test_what_was_measured_is_kept(tmp_path: Path, model: Model) -> None:
    book = ThreadBook(tmp_path, Cores(2, 2))
    path = book._path(model.path, "stock")
    _write(path, Measured(book.machine, model.path.name, "stock", {2: 10.0, 1: 20.0}, {2: 9.0, 1: 5.0}))
    before = path.read_bytes()
    assert "1: 20, 2: 10 t/s" in choose(book, model)
    assert path.read_bytes() == before
    known = book.known(model.path, "stock")
    assert (known.writing, known.reading) == (1, 2)
    assert "Not measured" in book.known(model.path, "own").why
    assert [each.model for each in book.all()] == [model.path.name]
    assert ThreadBook(tmp_path, Cores(4, 4)).all() == []  # another machine


def test_one_core_needs_no_measuring(tmp_path: Path, model: Model) -> None:
    assert "only one" in choose(ThreadBook(tmp_path, Cores(1, 1)), model)
    assert "only one" in choose(ThreadBook(tmp_path, Cores(8, 8, quota=1.5)), model)
    assert not list(tmp_path.iterdir())


def test_a_stopped_load_measures_nothing(tmp_path: Path, model: Model) -> None:
    assert "Not measured" in choose(ThreadBook(tmp_path, Cores(8, 4)), model, stopped=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ("", "{", "[]", '{"writing": {"0": 1}}', '{"writing": {"2": "x"}}', "null"))
def test_a_damaged_file_is_measured_again(tmp_path: Path, model: Model, text: str) -> None:
    book = ThreadBook(tmp_path, Cores(2, 2))
    book._path(model.path, "stock").write_text(text)
    assert book.all() == []
    assert "Not measured" in book.known(model.path, "stock").why


def test_a_rate_at_the_edge() -> None:
    assert Measured("m", "x", "own", {1: 97.0, 2: 100.0}, {}).choice(Cores(2, 2)).writing == 1
    assert Measured("m", "x", "own", {1: 96.0, 2: 100.0}, {}).choice(Cores(2, 2)).reading == 2
