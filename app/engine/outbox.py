"""The worker's side of the pipe of events."""

from __future__ import annotations

import os
import threading
from typing import BinaryIO

from app.engine.protocol import Event
from app.engine.protocol.wire import encode


class Outbox:
    """Sends events, from any thread. If nobody reads them any more the process ends."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, event: Event) -> None:
        """Send one event."""
        line = encode(event)
        try:
            with self._lock:
                self._stream.write(line)
                self._stream.flush()
        except BrokenPipeError:
            os._exit(0)
