"""Fetches one file: over as many connections as it takes, and never the same bytes again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx2

from models.hub import faults
from models.hub.client import Hub
from models.hub.control import Control
from models.hub.part import Identity, PartFile, digest_of
from models.hub.session import HubSession, origin, reason_of
from quantize.errors import HubError, HubUnavailableError

State = Literal["checking", "connecting", "loading", "waiting"]

Tell = Callable[[State, int, float], None]
"""Hears what happens, the bytes that are there, and for ``waiting`` the seconds of the pause."""

SPACE_EVERY = 8 << 20
"""Bytes after which the room on the disk is looked at again."""

A_GOOD_TRY = 1 << 20
"""Bytes of one connection after which the next is opened without a pause."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How failures of the network are borne."""

    first: float = 1.0
    """Seconds before the second try."""
    longest: float = 30.0
    """Most seconds between two tries; each pause is twice the one before."""
    tries: int = 7
    """Tries in a row that bring not a byte."""
    longest_told: float = 120.0
    """A pause that the hub demands is kept if it is not longer."""


@dataclass
class Meter:
    """Speed over the last seconds."""

    window: float = 8.0
    clock: Callable[[], float] = time.monotonic
    _marks: deque[tuple[float, int]] = field(default_factory=deque)

    def mark(self, done: int) -> None:
        """So many bytes are there now."""
        now = self.clock()
        if self._marks and done < self._marks[-1][1]:
            self._marks.clear()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[0][0] > self.window:
            self._marks.popleft()

    @property
    def speed(self) -> float:
        """Bytes per second, 0 as long as nobody can say."""
        if len(self._marks) < 2:
            return 0.0
        (then, before), (now, done) = self._marks[0], self._marks[-1]
        return (done - before) / (now - then) if now > then else 0.0


class Transfer:
    """One file on its way to ``target``.

    Args:
        target: where it will be; the directories above it are made.
        tell: called from the thread that runs ``run``, for every chunk.
    """

    def __init__(
        self,
        hub: Hub,
        identity: Identity,
        target: Path,
        control: Control,
        tell: Tell,
        patience: Patience | None = None,
    ) -> None:
        self._hub = hub
        self._identity = identity
        self._target = target
        self._control = control
        self._tell = tell
        self._patience = patience or Patience()
        self._url = hub.url(identity.repo, identity.path, identity.revision)

    def run(self) -> None:
        """Fetch what is missing. Blocks.

        Raises:
            HubError: with the reason; what is there is kept unless it is wrong.
            Stopped: if the control says so.
        """
        if self._is_there():
            return
        with PartFile(self._target, self._identity) as part:
            part.resume(lambda done: self._say("checking", done))
            self._say("connecting", part.done)
            part.check_space()
            with self._hub.session() as session:
                self._fetch_all(part, session)
            self._say("checking", part.done)
            part.finish()

    def _is_there(self) -> bool:
        """Whether the complete file is in its place already."""
        try:
            if self._target.stat().st_size != self._identity.size:
                return False
            found = digest_of(self._target, self._identity, lambda done: self._say("checking", done))
        except OSError:
            return False
        return found == self._identity.digest

    def _fetch_all(self, part: PartFile, session: HubSession) -> None:
        failures = 0
        while part.done < self._identity.size:
            before = part.done
            try:
                self._fetch(part, session)
                trouble: HubError = faults.unreachable(self._hub.endpoint, "it sent less than it promised")
                told = 0.0
            except HubUnavailableError as error:
                trouble, told = error, error.retry_after
            finally:
                part.flush()
            if part.done >= self._identity.size:
                return
            self._control.check()  # a shut socket looks like a broken connection
            failures = 1 if part.done > before else failures + 1
            if failures >= self._patience.tries or told > self._patience.longest_told:
                raise trouble
            if part.done - before >= A_GOOD_TRY:
                continue  # it flows, only the connection broke
            pause = max(told, min(self._patience.first * 2 ** (failures - 1), self._patience.longest))
            self._say("waiting", part.done, pause)
            self._control.wait(pause)
            self._say("connecting", part.done)

    def _fetch(self, part: PartFile, session: HubSession) -> None:
        """One connection: append what it brings.

        Raises:
            HubUnavailableError: if another one may bring more.
            HubError: if none will.
        """
        start, size = part.done, self._identity.size
        headers = self._hub.headers() | {"range": f"bytes={start}-{size - 1}"}
        extensions = {"trace": self._control.trace}
        try:
            with session.stream("GET", self._url, headers=headers, extensions=extensions) as response:
                skip = self._check(response, start)
                next_look = part.done + SPACE_EVERY
                for data in response.iter_raw():
                    self._control.check()
                    if skip:
                        dropped = min(skip, len(data))
                        skip, data = skip - dropped, data[dropped:]
                    data = data[: size - part.done]
                    if not data:
                        if part.done >= size:
                            return
                        continue
                    part.write(data)
                    self._say("loading", part.done)
                    if part.done >= next_look:
                        part.check_space()
                        next_look = part.done + SPACE_EVERY
        except httpx2.TransportError as error:
            raise faults.unreachable(self._hub.endpoint, reason_of(error)) from None
        except httpx2.StreamError:
            raise faults.strange(self._hub.endpoint) from None

    def _check(self, response: httpx2.Response, start: int) -> int:
        """Whether the answer is the wanted bytes; how many come before them.

        A server without ranges sends the file from its beginning: what is there is passed over.
        """
        status = response.status_code
        if status == 206:
            said = response.headers.get("content-range", "").replace(" ", "")
            begins = f"bytes{start}-"
            if not said.startswith(begins) or not said.endswith((f"/{self._identity.size}", "/*")):
                raise self._other_file()
            return 0
        if status == 200:
            length = response.headers.get("content-length", "")
            if length.isdigit() and int(length) != self._identity.size:
                raise self._other_file()
            return start
        if status == 416:
            raise self._other_file()
        if 300 <= status < 400:
            raise faults.strange(self._hub.endpoint)
        elsewhere = origin(str(response.url)) != origin(self._hub.endpoint)
        if elsewhere and status in (401, 403, 404, 410):
            # The address that the hub gave for the bytes has expired; it gives another one.
            raise faults.unreachable(self._hub.endpoint, f"the address of the file is refused with {status}")
        about = f"{self._identity.repo}/{self._identity.path}"
        raise faults.refused(status, response.headers, about, self._hub.endpoint, self._hub.has_token)

    def _other_file(self) -> HubError:
        return HubError(
            f"The hub lists {self._identity.path} with {self._identity.size:,} bytes and sends other ones.",
            "Try again; if it happens again, the mirror or the proxy is at fault.",
        )

    def _say(self, state: State, done: int, seconds: float = 0.0) -> None:
        self._control.check()
        self._tell(state, done, seconds)
