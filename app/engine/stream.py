"""From tokens to text: characters that span tokens, stop strings, and chunks of a sensible rate."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from time import perf_counter

CHUNK_SECONDS = 0.04
"""Text is sent about 25 times per second, however fast the model writes."""


class TextStream:
    """Takes the bytes of each token and hands out text.

    Args:
        send: called with each new chunk.
        stop_strings: texts that end the reply; neither they nor what follows is shown.
    """

    def __init__(self, send: Callable[[str], None], stop_strings: Sequence[str] = ()) -> None:
        self._send = send
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._stop = re.compile("|".join(map(re.escape, stop_strings))) if stop_strings else None
        self._held = max(map(len, stop_strings), default=1) - 1
        self._waiting = ""
        self._parts: list[str] = []
        self._sent_at = 0.0
        self.hit_stop_string = False

    def add(self, piece: bytes) -> None:
        """Take the bytes of one token."""
        self._waiting += self._decode(piece)
        if self._stop is not None and (found := self._stop.search(self._waiting)):
            self._waiting = self._waiting[: found.start()]
            self.hit_stop_string = True
        elif (now := perf_counter()) - self._sent_at >= CHUNK_SECONDS:
            self._sent_at = now
            end = len(self._waiting) - self._held  # the rest could be the beginning of a stop string
            if end > 0:
                self._hand_out(end)

    def end(self) -> str:
        """Send what is left and return the whole text."""
        if not self.hit_stop_string:
            self._waiting += self._decode(b"", True)
        if self._waiting:
            self._hand_out(len(self._waiting))
        return "".join(self._parts)

    def _hand_out(self, end: int) -> None:
        chunk, self._waiting = self._waiting[:end], self._waiting[end:]
        self._parts.append(chunk)
        self._send(chunk)
