"""The program is killed at random points, without a chance to tidy up, and goes on when started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from models.hub.part import PIECE, journal_path, part_path
from tests.hub.blob import Blob
from tests.hub.server import LoopbackHub

ROOT = Path(__file__).resolve().parents[2]
MB = 1_000_000
KILLS = 20


def start(server: LoopbackHub, own: Path) -> subprocess.Popen[bytes]:
    """A real process that downloads."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.hub.killed", server.url, str(own)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT)


def test_killed_at_twenty_random_points(server: LoopbackHub, tmp_path: Path) -> None:
    """The points are bytes: where the store has sent so many, the process gets SIGKILL."""
    blob = Blob(200 * MB)
    server.add("o/r", {"m.gguf": blob})
    own, target = tmp_path / "own", tmp_path / "own" / "o" / "r" / "m.gguf"
    points = sorted(random.Random(7).sample(range(blob.size), KILLS))
    kept, lost = 0, 0
    for point in points:
        server.faults.go_on.clear()
        server.faults.holding.clear()
        server.faults.hold_after = max(point - kept, 0)  # of this connection, which begins at ``kept``
        process = start(server, own)
        assert server.faults.holding.wait(60), "the store has sent what it should"
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()
        server.faults.go_on.set()
        assert not target.exists(), "an incomplete file never has the name of a complete one"
        kept, had = told(target), part_path(target).stat().st_size
        assert kept <= had <= blob.size
        lost += had - kept
    server.faults.hold_after = -1
    last = start(server, own)
    out, _ = last.communicate(timeout=120)
    assert last.returncode == 0, out[-300:]
    assert target.stat().st_size == blob.size
    assert [p.name for p in target.parent.iterdir()] == ["m.gguf"]
    assert all(target_piece == blob.read(i * MB, MB) for i, target_piece in enumerate(pieces(target)))
    assert len(server.requests("/resolve/")) == KILLS + 1
    print(f"killed {KILLS} times; {lost:,} bytes of {blob.size:,} had arrived and were fetched again")
    assert lost <= KILLS * (PIECE + (1 << 16))


def told(target: Path) -> int:
    """Bytes that the journal tells of."""
    lines = journal_path(target).read_bytes().splitlines()[1:]
    return sum(int(line.split()[0]) for line in lines if b" " in line)


def pieces(path: Path) -> list[bytes]:
    """The file in megabytes."""
    with path.open("rb") as file:
        return list(iter(lambda: file.read(MB), b""))


def test_a_killed_program_does_not_hold_the_lock(server: LoopbackHub, tmp_path: Path) -> None:
    server.add("o/r", {"m.gguf": Blob(MB)})
    server.faults.hold_after = 1000
    process = start(server, tmp_path / "own")
    assert server.faults.holding.wait(60)
    process.kill()
    process.communicate()
    server.faults.hold_after = -1
    server.faults.go_on.set()
    again = start(server, tmp_path / "own")
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0, out[-300:]
