"""Leaving when the terminal goes away.

A window that is closed sends SIGHUP to the program that it controls. A program that has the terminal
without being controlled by it (under some multiplexers and remote shells) gets no signal: its screen
would wait for ever for a reader, and its input would spin. So a thread waits for the hang-up itself.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from threading import Thread


def leave_with_the_terminal() -> None:
    """End this process as SIGHUP does when standard input's terminal hangs up."""
    terminal = sys.stdin.fileno()

    def wait() -> None:
        poll = select.poll()
        poll.register(terminal, 0)  # a hang-up is reported unasked
        if any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
            os.kill(os.getpid(), signal.SIGHUP)

    Thread(target=wait, name="hang-up", daemon=True).start()
