"""The worker's letter box: a thread that reads commands while the main thread computes.

Commands that can wait go into a queue. ``Stop`` takes effect at once, in the middle of a
computation. Those that can be done between two tokens (``URGENT``) are handed out early by
``urgent``.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import BinaryIO

from app.engine.protocol import Ask, Command, CountTokens, SetCache, SetThreads, Shutdown, Stop, UndoCache
from app.engine.protocol.wire import decode_command, read_lines
from quantize.errors import EngineError
from quantize.llama import StopFlag

Kinds = tuple[type[Command], ...]

URGENT: Kinds = (SetCache, UndoCache, SetThreads, Ask, CountTokens)


LAST_SECONDS = 60.0
"""After ``Shutdown`` the process has so long to come to an end by itself."""


class Inbox:
    """Commands in the order of their arrival, and whether the present one was stopped.

    A ``Stop`` stops everything that arrived before it and is not done yet, also a command that is
    still in the queue, and nothing that arrives after it.
    """

    def __init__(self, on_bad_line: Callable[[EngineError], None]) -> None:
        self.stop_flag = StopFlag()
        """Set while the present command is to stop; llama.cpp looks at it."""
        self.arrival = StopFlag()
        """Set when a command arrives: it interrupts what is done for want of one."""
        self.closing = False
        """``Shutdown`` has arrived."""
        self._on_bad_line = on_bad_line
        self._waiting: deque[tuple[int, Command]] = deque()
        self._changed = threading.Condition()
        self._arrived = 0
        self._stopped = 0  # everything that arrived up to here is stopped
        self._present = 0
        self._answer: Callable[[Ask], None] | None = None

    def listen(self, stream: BinaryIO) -> None:
        """Read ``stream`` in a thread. When it ends the parent is gone, and the process ends with it."""
        threading.Thread(target=self._listen, args=(stream,), name="inbox", daemon=True).start()

    def _listen(self, stream: BinaryIO) -> None:
        try:
            for line in read_lines(stream):
                try:
                    self.put(decode_command(line))
                except EngineError as error:
                    self._on_bad_line(error)
        except (EngineError, OSError) as error:
            os.write(2, f"the pipe from the interface broke: {error}\n".encode())
        if self.closing:  # a conversation may still be on its way to the disk
            time.sleep(LAST_SECONDS)
        os._exit(0)  # nothing to clean up that the system does not: temporary files have no name

    def put(self, command: Command) -> None:
        """Take one command in."""
        with self._changed:
            answer = self._answer if not self._waiting else None
        if answer is not None and isinstance(command, Ask):
            answer(command)
            return
        with self._changed:
            self._arrived += 1
            if isinstance(command, Stop | Shutdown):
                self._stopped = self._arrived
                if self._present:
                    self.stop_flag.set()
            if isinstance(command, Shutdown):
                self.closing = True
            if not isinstance(command, Stop):
                self._waiting.append((self._arrived, command))
            self.arrival.set()
            self._changed.notify()

    def wait(self, seconds: float) -> bool:
        """Whether a command waits, now or within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._waiting), seconds)

    def calm(self, answer: Callable[[Ask], None]) -> bool:
        """Whether no command waits; ``arrival`` is then set by the next one.

        Args:
            answer: gives figures meanwhile, from the thread that reads the commands: they are asked for every
                two seconds, and what is done for want of a command would never come to an end.
        """
        with self._changed:
            if self._waiting:
                return False
            self.arrival.clear()
            self._answer = answer
            return True

    def engaged(self) -> None:
        """What was done for want of a command has ended or was interrupted."""
        with self._changed:
            self._answer = None

    def next(self) -> Command:
        """Wait for the next command and make it the present one. ``done`` ends it."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            self._present, command = self._waiting.popleft()
            if self._present <= self._stopped:
                self.stop_flag.set()
            else:
                self.stop_flag.clear()
            return command

    def done(self) -> None:
        """The present command has ended."""
        with self._changed:
            self._present = 0
            self.stop_flag.clear()

    def ignore_stop(self) -> None:
        """The present command was stopped; what it does now to clean up must not be."""
        self.stop_flag.clear()

    @property
    def stopped(self) -> bool:
        """Whether the present command is to stop."""
        return bool(self.stop_flag)

    @property
    def has_urgent(self) -> bool:
        """Whether the next waiting command can be done while another one runs. Cheap."""
        waiting = self._waiting
        return bool(waiting) and isinstance(waiting[0][1], URGENT)

    def urgent(self, kinds: Kinds = URGENT) -> Command | None:
        """Take the next waiting command if it is of ``kinds``, to be done while another one runs.

        Only from the head of the queue, so that commands keep their order.
        """
        with self._changed:
            if self._waiting and isinstance(self._waiting[0][1], kinds):
                return self._waiting.popleft()[1]
            return None
