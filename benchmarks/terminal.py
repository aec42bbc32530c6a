"""The real program in a pseudo-terminal: keys go in, what it draws comes out with its time."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

ROOT = Path(__file__).resolve().parent.parent


class Terminal:
    """``stretch`` in a terminal of ``width`` times ``height`` cells.

    A thread reads what the program draws, so that the time of its arrival is exact.
    """

    def __init__(
        self, home: Path, arguments: Sequence[str] = (), *, width: int = 140, height: int = 40
    ) -> None:
        self._fd, child = pty.openpty()
        fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        env = os.environ | {
            "STRETCH_HOME": str(home),
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "LANG": "C.UTF-8",
        }
        self.started = perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *arguments],
            stdin=child,
            stdout=child,
            stderr=child,
            env=env,
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(child)
        self._drawn = bytearray()
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._read, name="terminal", daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                select.select([self._fd], [], [])
                data = os.read(self._fd, 65536)
            except OSError:
                data = b""
            with self._changed:
                self._drawn += data
                self._ended = not data
                self._changed.notify_all()
            if not data:
                return

    @property
    def n_drawn(self) -> int:
        """Bytes that were drawn so far: a place to wait from."""
        return len(self._drawn)

    def wait_for(self, *texts: str, since: int = 0, timeout: float = 60.0) -> float:
        """Wait until one of ``texts`` is drawn after the place ``since``; the time when it was there.

        Raises:
            TimeoutError: if it does not come, or the program ends.
        """
        wanted = [text.encode() for text in texts]
        with self._changed:
            end = perf_counter() + timeout
            while all(self._drawn.find(w, since) < 0 for w in wanted):
                left = end - perf_counter()
                if left <= 0 or self._ended:
                    raise TimeoutError(f"the program did not draw {' or '.join(map(repr, texts))}")
                self._changed.wait(left)
            return perf_counter()

    def has_drawn(self, text: str, since: int = 0) -> bool:
        """Whether ``text`` was drawn after the place ``since``."""
        return self._drawn.find(text.encode(), since) >= 0

    def latest(self, *texts: str) -> str:
        """Which of ``texts`` was drawn last."""
        return max(texts, key=lambda text: self._drawn.rfind(text.encode()))

    def press(self, keys: str) -> float:
        """Send keys; the time just before."""
        now = perf_counter()
        os.write(self._fd, keys.encode())
        return now

    def close(self) -> int:
        """Leave with Ctrl-Q; the exit code."""
        if self.process.poll() is None:
            self.press("\x11")
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            os.close(self._fd)
