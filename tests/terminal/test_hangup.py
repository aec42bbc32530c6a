"""A terminal that goes away takes the program with it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path


def started(home: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The program on a terminal of its own, and our end of that."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "STRETCH_HOME": str(home), "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)
    return process, ours


def test_the_program_ends_when_a_terminal_that_does_not_control_it_is_gone(tmp_path: Path) -> None:
    """No SIGHUP comes from the system here: the process is not the terminal's."""
    process, ours = started(tmp_path)
    try:
        seen = b""
        while b"\x1b[?1049h" not in seen:  # the screen is open
            seen += os.read(ours, 65536)
        os.close(ours)
        assert process.wait(60) == -signal.SIGHUP
    finally:
        process.kill()
        process.wait()


def test_a_program_that_is_ended_gives_the_terminal_back(tmp_path: Path) -> None:
    process, ours = started(tmp_path)
    try:
        seen = b""
        while b"Ask, or type" not in seen:
            seen += os.read(ours, 65536)
        process.terminate()
        while b"\x1b[?1049l" not in seen:  # the screen of the shell is back
            seen += os.read(ours, 65536)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        os.close(ours)
