"""Threads that make room for other programs, and that can be changed at any time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from app.engine.protocol import Finished, Generate, Load, Loaded, Sampling, SetThreads, Status, TextChunk
from app.engine.threads import Meter, default_threads
from tests.engine.harness import Harness, user

N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

TURNS = user("Tell me a story.")
LONG = Sampling(temperature=1.0, seed=1, max_tokens=400)
MOST_REPLIES = 5


@pytest.fixture
def busy() -> Iterator[list[subprocess.Popen[bytes]]]:
    """A program for each core that computes until the test ends."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(N_CORES)]
    yield programs
    for each in programs:
        each.kill()
        each.wait()


def load(engine: Harness, path: os.PathLike[str], n_threads: int, adapt: bool = True) -> None:
    command = Load(engine.next_id(), str(path), 2048, n_threads=n_threads, adapt_threads=adapt)
    engine.ask(command, Loaded)


def seen(engine: Harness) -> list[int]:
    """The numbers of threads that the figures named so far."""
    return [e.n_threads for e in engine.events if isinstance(e, Status) and e.most_threads]


@pytest.mark.skipif(N_CORES < 2, reason="with one core there is nothing to make room with")
def test_threads_go_down_beside_other_programs(
    engine: Harness, builtin: os.PathLike[str], busy: list[subprocess.Popen[bytes]]
) -> None:
    load(engine, builtin, n_threads=N_CORES)
    engine.events.clear()
    for _ in range(MOST_REPLIES):
        assert engine.generate(TURNS, Sampling(temperature=0.0, max_tokens=20)).n_generated
        status = engine.ask(status_of(engine), Status)
        assert status.most_threads == N_CORES
        if status.n_threads < N_CORES:
            return
    raise AssertionError(f"all {N_CORES} threads went on: {seen(engine)}")


def test_they_stay_where_they_are_told_to(
    engine: Harness, builtin: os.PathLike[str], busy: list[subprocess.Popen[bytes]]
) -> None:
    load(engine, builtin, n_threads=2, adapt=False)
    engine.events.clear()
    for _ in range(3):
        engine.generate(TURNS, Sampling(temperature=0.0, max_tokens=20))
    assert set(seen(engine)) == {2}


def status_of(engine: Harness) -> SetThreads:
    """A command that changes nothing and is answered with the figures."""
    return SetThreads(engine.next_id(), N_CORES, True)


def test_a_change_holds_in_the_middle_of_a_reply(engine: Harness, builtin: os.PathLike[str]) -> None:
    load(engine, builtin, n_threads=1)
    alone = engine.generate(TURNS, LONG)
    engine.send(Generate(engine.next_id(), user("And another one."), LONG))
    engine.until(TextChunk)
    changed = SetThreads(engine.next_id(), 2, False)
    status = engine.ask(changed, Status)
    assert (status.n_threads, status.most_threads) == (2, 2)
    assert engine.until(Finished).n_generated
    back = engine.ask(SetThreads(engine.next_id(), 1, True), Status)
    assert (back.n_threads, back.most_threads) == (1, 1)
    assert engine.generate(TURNS, LONG).text == alone.text


def test_zero_threads_are_the_measured_ones(engine: Harness, builtin: os.PathLike[str]) -> None:
    """Before anything was measured: the fast cores. What was set by hand is said to be."""
    load(engine, builtin, n_threads=1)
    status = engine.ask(SetThreads(engine.next_id(), 0, False), Status)
    assert (status.most_threads, status.reading_threads) == (default_threads(),) * 2
    assert "Not measured" in status.threads_why
    status = engine.ask(SetThreads(engine.next_id(), 1, False), Status)
    assert (status.most_threads, status.reading_threads) == (1, 1) and "n_threads" in status.threads_why
    load(engine, builtin, n_threads=0)
    status = engine.ask(SetThreads(engine.next_id(), 0, False), Status)
    assert 1 <= status.most_threads <= default_threads() and status.threads_why


def test_idle_time_and_own_time_go_on() -> None:
    """What the decision rests on: a process that computes gets processor time, and the totals never fall."""
    meter = Meter()
    before = meter.read()
    total = 0
    while meter.read().own <= before.own:
        total += sum(range(10_000))
    after = meter.read()
    assert after.at > before.at and after.own > before.own and after.idle >= before.idle > 0
