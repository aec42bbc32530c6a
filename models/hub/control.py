"""How one thread tells another, which waits for a server, to stop at once."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any


class Stopped(Exception):
    """The person wants this to end. Not an error, so it is not one of ``StretchError``."""


class Control:
    """Shared by the thread that downloads and whoever may stop it.

    A thread in a blocking read hears nothing, so ``stop`` shuts the sockets down that the thread
    has opened; httpcore tells about them through its ``trace`` extension.
    """

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._streams: list[Any] = []

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End what runs, from another thread. Returns at once."""
        self._stopped.set()
        with self._lock:
            for stream in self._streams:
                _shut(stream)

    def check(self) -> None:
        """End here if it was asked for.

        Raises:
            Stopped: if ``stop`` was called.
        """
        if self._stopped.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Sleep until ``seconds`` have passed.

        Raises:
            Stopped: as soon as ``stop`` is called.
        """
        if self._stopped.wait(seconds):
            raise Stopped

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """For ``extensions={"trace": control.trace}`` of a request."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with self._lock:
                self._streams = [*self._streams[-3:], info["return_value"]]
            self.check()


def _shut(stream: Any) -> None:
    sock = stream.get_extra_info("socket")
    if isinstance(sock, socket.socket):
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not TLS's own: that belongs to the other thread
