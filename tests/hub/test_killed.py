"""The program is killed at random points, without a chance to tidy up, and goes on when started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.hub.part import PIECE, journal_path, part_path
from tests.hub.blob import Blob
from tests.hub.server import LoopbackHub

ROOT = Path(__file__).resolve().parents[2]
MB = 1_000_000
KILLS = 20


class Nursery:
    """Makes processes that download."""

    def __init__(self, server: LoopbackHub, own: Path) -> None:
        command = [sys.executable, "-m", "tests.hub.killed", server.url, str(own)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            text=True,
        )

    def start(self) -> int:
        """Start a download; its process."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._line()

    def status(self) -> int:
        """How the process has ended: 0, or the signal that killed it."""
        return self._line()

    def _line(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate(timeout=60)


@pytest.fixture
def nursery(server: LoopbackHub, tmp_path: Path) -> Iterator[Nursery]:
    made = Nursery(server, tmp_path / "own")
    yield made
    server.faults.go_on.set()
    made.close()


def test_killed_at_twenty_random_points(server: LoopbackHub, tmp_path: Path, nursery: Nursery) -> None:
    """The points are bytes: where the store has sent so many, the process gets SIGKILL."""
    blob = Blob(200 * MB)
    server.add("o/r", {"m.gguf": blob})
    target = tmp_path / "own" / "o" / "r" / "m.gguf"
    kept, lost = 0, 0
    for point in sorted(random.Random(7).sample(range(blob.size), KILLS)):
        server.faults.go_on.clear()
        server.faults.holding.clear()
        server.faults.hold_after = max(point - kept, 0)  # of this connection, which begins at ``kept``
        process = nursery.start()
        assert server.faults.holding.wait(60), "the store has sent what it should"
        os.kill(process, signal.SIGKILL)
        assert nursery.status() == signal.SIGKILL
        server.faults.go_on.set()
        assert not target.exists(), "an incomplete file never has the name of a complete one"
        kept, had = told(target), part_path(target).stat().st_size
        assert kept <= had <= blob.size
        lost += had - kept
    server.faults.hold_after = -1
    nursery.start()
    assert nursery.status() == 0
    assert target.stat().st_size == blob.size
    assert [p.name for p in target.parent.iterdir()] == ["m.gguf"]
    assert all(piece == blob.read(i * MB, MB) for i, piece in enumerate(pieces(target)))
    assert len(server.requests("/resolve/")) == KILLS + 1
    print(f"killed {KILLS} times; {lost:,} bytes of {blob.size:,} had arrived and were fetched again")
    assert lost <= KILLS * (PIECE + (1 << 16))


def told(target: Path) -> int:
    """Bytes that the journal tells of."""
    lines = journal_path(target).read_bytes().splitlines()[1:]
    return sum(int(line.split()[0]) for line in lines if b" " in line)


def pieces(path: Path) -> Iterator[bytes]:
    """The file in megabytes."""
    with path.open("rb") as file:
        while data := file.read(MB):
            yield data


def test_a_killed_program_does_not_hold_the_lock(server: LoopbackHub, nursery: Nursery) -> None:
    server.add("o/r", {"m.gguf": Blob(MB)})
    server.faults.hold_after = 1000
    process = nursery.start()
    assert server.faults.holding.wait(60)
    os.kill(process, signal.SIGKILL)
    assert nursery.status() == signal.SIGKILL
    server.faults.hold_after = -1
    server.faults.go_on.set()
    nursery.start()
    assert nursery.status() == 0
