"""The header of a file on the hub, read by ranges, before anything else of the file is fetched.

The reader asks for growing chunks (256 KiB at first). Most of a header is the vocabulary, several
megabytes that are the same in every quantization of a model: once they were read for one file,
the others are recognised by the beginning of each list and only what lies between is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

from models.header import Header, Skipped, parse_header
from models.hub import faults
from models.hub.client import Hub
from models.hub.control import Control
from models.hub.files import HubFile, HubModel, Repo
from models.hub.session import HubSession, reason_of
from models.hub.transfer import Patience
from models.splits import join_parts
from quantize.errors import HubError, HubUnavailableError, ModelFileError

MOST_FETCHED = 64 << 20
"""Bytes that are fetched of one header. The largest known vocabularies take a quarter."""

_FIRST_BETWEEN = 1 << 16
"""First chunk where a similar file is known: what lies between the lists is small."""

_LONG_LIST = 1 << 15
"""Bytes from which a list is worth recognising."""

_ITEMS_COMPARED = 96
"""Bytes of its first items that must be the same."""

_LONGEST_BEGINNING = 256


class RemoteSource:
    """A file on the hub of which only the beginning is read.

    Args:
        like: a file of the same repository whose header was read.
        control: lets another thread end the reading.
    """

    def __init__(
        self,
        hub: Hub,
        session: HubSession,
        repo: Repo,
        file: HubFile,
        *,
        like: RemoteHeader | None = None,
        control: Control | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.name = file.path.rsplit("/", 1)[-1]
        self.size: int | None = file.size
        self.n_fetched = 0
        self._hub, self._session = hub, session
        self._url = hub.url(repo.name, file.path, repo.revision)
        self._about = f"{repo.name}/{file.path}"
        self._patience = patience or Patience(first=0.5, longest=2.0, tries=3, longest_told=5.0)
        self._control = control or Control()
        self._chunks: list[tuple[int, bytes]] = []
        self._lists = _beginnings(like) if like else {}
        self._like = like.source if like else None
        self._known: list[tuple[int, int, int]] = []
        """Regions that equal the similar file: begin, end, and where they begin there."""
        self._step = _FIRST_BETWEEN

    def read_at(self, offset: int, n: int) -> bytes:
        """As the protocol says, except that it may give fewer bytes before the end.

        Raises:
            HubError: if the hub does not give them, or too many were asked for.
        """
        end = min(offset + n, self.size or 0)
        if offset >= end:
            return b""
        for start, stop, there in self._known:
            if start <= offset < stop and self._like is not None:
                return self._like.read_at(there + offset - start, min(end, stop) - offset)
        for start, data in self._chunks:
            if start <= offset < start + len(data):
                return data[offset - start : end - start]
        if self._like is not None:
            end = min(end, offset + self._step)
            self._step *= 2
        return self._fetch(offset, end)

    def _fetch(self, offset: int, end: int) -> bytes:
        if self.n_fetched + end - offset > MOST_FETCHED:
            raise HubError(
                f"The header of {self.name} does not end within {MOST_FETCHED >> 20} MiB.",
                "No real model has such a header: choose another file.",
            )
        data = self._with_patience(offset, end)
        self.n_fetched += len(data)
        self._recognise(offset, data)
        self._chunks.append((offset, data))
        return data

    def _with_patience(self, offset: int, end: int) -> bytes:
        for failures in range(self._patience.tries):
            try:
                return self._ask(offset, end)
            except HubUnavailableError as error:
                last = failures + 1 == self._patience.tries
                if last or error.retry_after > self._patience.longest_told:
                    raise
                pause = min(self._patience.first * 2**failures, self._patience.longest)
                self._control.wait(max(pause, error.retry_after))
        raise AssertionError("the loop returns or raises")

    def _ask(self, offset: int, end: int) -> bytes:
        self._control.check()
        headers = self._hub.headers() | {"range": f"bytes={offset}-{end - 1}"}
        extensions = {"trace": self._control.trace}
        data, skip = bytearray(), 0
        try:
            with self._session.stream("GET", self._url, headers=headers, extensions=extensions) as response:
                skip = self._check(response, offset)
                for piece in response.iter_raw():
                    self._control.check()
                    data += piece
                    if len(data) >= skip + end - offset:
                        break
        except httpx2.TransportError as error:
            self._control.check()
            if len(data) <= skip:  # else what came is good, and the next chunk begins behind it
                raise faults.unreachable(self._hub.endpoint, reason_of(error)) from None
        except httpx2.StreamError:
            raise faults.strange(self._hub.endpoint) from None
        if len(data) <= skip:
            raise faults.unreachable(self._hub.endpoint, "it sent nothing")
        return bytes(data[skip : skip + end - offset])

    def _check(self, response: httpx2.Response, offset: int) -> int:
        """Bytes of the answer that come before the wanted ones."""
        if response.status_code == 206:
            said = response.headers.get("content-range", "").replace(" ", "")
            if not said.startswith(f"bytes{offset}-"):
                raise faults.strange(self._hub.endpoint)
            return 0
        if response.status_code == 200:
            return offset
        raise faults.refused(
            response.status_code, response.headers, self._about, self._hub.endpoint, self._hub.has_token
        )

    def _recognise(self, offset: int, data: bytes) -> None:
        """Find the beginnings of lists that are in the similar file too."""
        before = next((d[-_LONGEST_BEGINNING:] for s, d in self._chunks if s + len(d) == offset), b"")
        text, start = before + data, offset - len(before)
        for beginning, (there, n_bytes) in list(self._lists.items()):
            at = text.find(beginning)
            if at >= 0:
                self._known.append((start + at, start + at + n_bytes, there))
                del self._lists[beginning]


@dataclass(frozen=True)
class RemoteHeader:
    """A header that was read from the hub."""

    header: Header
    source: RemoteSource
    """Of the first part: a dry run reads the metadata from it again."""


def _beginnings(like: RemoteHeader) -> dict[bytes, tuple[int, int]]:
    """For every long list of a header: its key, type, length and first items, and where it lies."""
    spans: Mapping[str, tuple[int, int]] = like.header.spans
    found: dict[bytes, tuple[int, int]] = {}
    for key, (start, end) in spans.items():
        if isinstance(like.header.metadata[key], Skipped) and end - start > _LONG_LIST:
            n = 8 + len(key.encode()) + 4 + 4 + 8 + _ITEMS_COMPARED
            beginning = like.source.read_at(start, n)
            if n <= _LONGEST_BEGINNING and len(beginning) == n:
                found[beginning] = (start, end - start)
    return found


def read_remote(
    hub: Hub,
    session: HubSession,
    repo: Repo,
    model: HubModel,
    *,
    like: RemoteHeader | None = None,
    control: Control | None = None,
    patience: Patience | None = None,
) -> RemoteHeader:
    """The header of a model on the hub, with the tensors of all its parts.

    Raises:
        HubError: if the hub does not give it.
        ModelFileError: if it is damaged or not for this engine.
    """
    try:
        return _read(hub, session, repo, model, like, control, patience)
    except ModelFileError:
        if like is None:
            raise
    # It seemed to have the other file's vocabulary and has not.
    return _read(hub, session, repo, model, None, control, patience)


def _read(
    hub: Hub,
    session: HubSession,
    repo: Repo,
    model: HubModel,
    like: RemoteHeader | None,
    control: Control | None,
    patience: Patience | None,
) -> RemoteHeader:
    sources = [
        RemoteSource(hub, session, repo, part, like=None if i else like, control=control, patience=patience)
        for i, part in enumerate(model.parts)
    ]
    first = parse_header(sources[0])
    others = (parse_header(source) for source in sources[1:])
    return RemoteHeader(join_parts(first, [s.name for s in sources], others), sources[0])
