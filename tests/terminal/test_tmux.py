"""The program in a real terminal: tmux types and reads the screen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

PATIENCE_S = 90.0
"""A bound for a test that hangs; nothing is measured with it."""


class Terminal:
    """One tmux server with one window."""

    def __init__(self, home: Path, columns: int, rows: int) -> None:
        self._tmux = ["tmux", "-S", str(home / "socket"), "-f", os.devnull]
        settings = home / "home" / "config" / "settings.toml"
        settings.parent.mkdir(parents=True)
        # The same short reply every time: a long one would push what the test looks for off the screen.
        settings.write_text("temperature = 0.0\nmax_tokens = 24\n")
        environment = {**os.environ, "STRETCH_HOME": str(home / "home"), "TERM": "xterm-256color"}
        size = ["-x", str(columns), "-y", str(rows)]
        subprocess.run([*self._tmux, "new-session", "-d", *size, "sh"], env=environment, check=True)
        self.type("PS1='$ '; clear\n")
        self.until("$")

    def _run(self, *args: str) -> str:
        return subprocess.run([*self._tmux, *args], capture_output=True, text=True, check=True).stdout

    def type(self, text: str) -> None:
        """Type characters; a newline is Enter."""
        for part in text.splitlines(keepends=True):
            if part.rstrip("\n"):
                self._run("send-keys", "-l", part.rstrip("\n"))
            if part.endswith("\n"):
                self._run("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        """Press keys as tmux names them."""
        self._run("send-keys", *keys)

    def screen(self) -> str:
        """What can be read now."""
        return self._run("capture-pane", "-p")

    def until(self, *texts: str) -> str:
        """Wait until all of ``texts`` stand on the screen."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            seen = self.screen()
            if all(text in seen for text in texts):
                return seen
            assert time.monotonic() < deadline, f"{texts} did not appear:\n{seen}"

    def until_prompt(self) -> str:
        """Wait until the shell has the terminal again; what is typed before would be lost."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            seen = self.screen()
            if seen.rstrip().endswith("$"):
                return seen
            assert time.monotonic() < deadline, f"the shell did not come back:\n{seen}"

    def close(self) -> None:
        """End everything in it."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True)


@pytest.fixture(params=[(140, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
def terminal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path, *request.param)
    yield opened
    opened.close()


def test_start_ask_switch_and_leave(terminal: Terminal) -> None:
    """The reply comes, the cache changes, the shell is as it was, and the library said nothing."""
    terminal.type(f"{sys.executable} -m app.cli\n")
    terminal.until("Ask, or type")
    terminal.type("My cat is called Miso.\n")
    terminal.until("My cat is called Miso.", "demo")
    terminal.type("/kv q8_0/q4_0\n")
    seen = terminal.until("q8_0/q4_0", "The cache is now")
    for noise in ("llama_", "ggml", "Traceback", "load_tensors"):
        assert noise not in seen
    terminal.press("C-q")
    terminal.until_prompt()
    terminal.type("echo left with $?\n")
    seen = terminal.until("left with 0")
    assert "Ask, or type" not in seen, "the screen of the program is still there"
    assert "Traceback" not in seen


def test_the_terminal_can_change_its_size_while_a_reply_is_written(terminal: Terminal) -> None:
    terminal.type(f"{sys.executable} -m app.cli\n")
    terminal.until("Ask, or type")
    terminal.type("Tell me a story about a fox.\n")
    for columns, rows in ((60, 20), (140, 40), (80, 24)):
        terminal._run("resize-window", "-x", str(columns), "-y", str(rows))
    terminal.until("ready")
    terminal.press("Escape")
    terminal.type("nonsense ][ [/bold] \\x1b \n")
    terminal.until("[/bold]")
    terminal.press("C-q")
    terminal.until_prompt()
    terminal.type("echo left with $?\n")
    terminal.until("left with 0")
