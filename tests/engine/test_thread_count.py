"""How many threads compute beside other programs: the decision on made-up machines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.thread_count import LONGEST_WAIT, SLACK, Sample, ThreadCount

WINDOW = 0.1


@dataclass
class Machine:
    """Cores that are shared fairly, with other programs on them; samples as the engine takes them."""

    cores: int
    others: Callable[[float], float]
    """Threads of other programs at a time; half a thread computes half of the time."""
    at: float = 0.0
    own: float = 0.0
    idle: float = 0.0
    counts: list[int] = field(default_factory=list)

    def sample(self) -> Sample:
        return Sample(self.at, self.own, self.idle)

    def run(self, n_threads: float, seconds: float = WINDOW) -> Sample:
        """Compute with so many threads."""
        others = self.others(self.at)
        share = min(1.0, self.cores / max(1e-9, n_threads + others))
        self.at += seconds
        self.own += n_threads * share * seconds
        self.idle += (self.cores - (n_threads + others) * share) * seconds
        return self.sample()

    def work(self, count: ThreadCount, seconds: float) -> list[int]:
        """The number of threads after each window."""
        seen = []
        for _ in range(round(seconds / WINDOW)):
            count.see(self.run(count.now))
            seen.append(count.now)
        return seen


def begin(machine: Machine, most: int = 0) -> ThreadCount:
    return ThreadCount(most or machine.cores, machine.sample())


@given(st.integers(1, 256), st.floats(0, 0.2), st.floats(0, 1))
def test_a_quiet_machine_keeps_all_threads(cores: int, noise: float, drawing: float) -> None:
    """Also beside programs that take a little of a core, and while the interface, which is our own, draws."""
    machine = Machine(cores, lambda _at: noise)
    count = begin(machine)
    for _ in range(100):
        count.see(machine.run(count.now + drawing))
        assert count.now == cores


@given(st.integers(2, 64), st.integers(1, 300), st.integers(0, 50))
def test_threads_make_room_within_two_seconds(cores: int, n_busy: int, quiet_windows: int) -> None:
    """Until hardly any thread waits for a core. Beside few programs these are all cores that they leave."""
    begins = quiet_windows * WINDOW
    machine = Machine(cores, lambda at: n_busy if at >= begins - 1e-6 else 0)
    count = begin(machine)
    machine.work(count, begins)
    assert count.now == cores
    seen = machine.work(count, 2.0)
    if n_busy <= 4:
        assert count.now == max(1, cores - n_busy)
    assert count.now == 1 or count.now * (1 - cores / max(cores, count.now + n_busy)) <= SLACK + 1e-6
    assert seen == sorted(seen, reverse=True)


def test_a_short_burst_is_waited_out() -> None:
    """A third of a core for one window changes nothing; for two, it does."""
    machine = Machine(2, lambda at: 0.4 if 0.95 < at < 1.05 or at > 1.95 else 0)
    count = begin(machine)
    assert set(machine.work(count, 2)) == {2}
    assert machine.work(count, 0.2) == [2, 1]


def test_two_cores_with_one_taken() -> None:
    """One window is enough, and nothing is tried while the other program goes on."""
    machine = Machine(2, lambda _at: 1)
    assert set(machine.work(begin(machine), 60)) == {1}


def test_a_laptop_with_two_of_eight_cores_taken() -> None:
    machine = Machine(8, lambda _at: 2)
    seen = machine.work(begin(machine), 60)
    assert seen[1:] == [6] * (len(seen) - 1)


@given(st.integers(2, 64), st.integers(1, 64), st.floats(0.5, 20))
def test_all_come_back_when_the_machine_is_quiet_again(cores: int, n_busy: int, seconds: float) -> None:
    machine = Machine(cores, lambda at: n_busy if at < seconds else 0)
    count = begin(machine)
    machine.work(count, seconds + 1)
    assert count.now == cores


@given(st.integers(2, 16), st.floats(0.5, 3), st.floats(0.4, 3))
def test_bursts_are_tried_ever_more_rarely(cores: int, burst: float, pause: float) -> None:
    """Each trial beside a burst costs a window in which threads wait for each other."""
    machine = Machine(cores, lambda at: cores if at % (burst + pause) < burst else 0)
    count = begin(machine)
    machine.work(count, 60)
    late = [count.now, *machine.work(count, 60)]
    assert sum(a < b for a, b in pairwise(late)) <= 60 / min(pause, LONGEST_WAIT) / 2 + 2


@pytest.mark.parametrize(("others", "expected"), ((0.0, 2), (1.0, 1), (2.0, 1)))
def test_the_load_while_nothing_was_computed_holds_from_the_first_token(others: float, expected: int) -> None:
    machine = Machine(2, lambda _at: others)
    count = begin(machine)
    for _ in range(3):  # asked for figures before it was told to write
        count.rest(machine.run(0, 1))
    count.start(machine.run(0, 0.01))
    assert count.now == expected
    count.start(machine.run(0, 3))  # or not
    assert count.now == expected


def test_a_program_that_ends_during_a_pause_gives_its_core_back_at_once() -> None:
    machine = Machine(2, lambda at: 1 if at < 4.95 else 0)
    count = begin(machine)
    machine.work(count, 5)
    assert count.now == 1
    count.start(machine.run(0, 10))
    assert count.now == 2


@given(st.integers(2, 16))
def test_own_waiting_is_not_taken_for_other_programs(cores: int) -> None:
    """For a disk or a GPU: the threads sleep, and their cores are idle."""
    machine = Machine(cores, lambda _at: 0)
    count = begin(machine)
    for _ in range(50):
        count.see(machine.run(0.3 * count.now))
        assert count.now == cores


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 9), st.integers(0, 9)), max_size=60), st.integers(1, 9)
)
def test_never_below_one_nor_above_the_limit(totals: list[tuple[float, int, int]], most: int) -> None:
    """Whatever the system reports."""
    count = ThreadCount(most, Sample(0.0, 0.0, 0.0))
    at = own = idle = 0.0
    for seconds, more_own, more_idle in totals:
        at, own, idle = at + seconds, own + more_own, idle + more_idle
        (count.start if more_own % 2 else count.see)(Sample(at, own, idle))
        assert 1 <= count.now <= most


@given(st.integers(2, 8), st.integers(1, 8))
def test_a_new_limit_holds_at_once(most: int, new: int) -> None:
    machine = Machine(8, lambda _at: 0)
    count = begin(machine, most)
    count.limit(new)
    assert count.now == new
    busy = Machine(2, lambda _at: 1)
    count = begin(busy)
    busy.work(count, 1)
    count.limit(new)
    assert count.now == 1
