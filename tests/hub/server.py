"""A model hub on loopback: the endpoints that ``huggingface_hub`` 2 uses, and faults on demand.

Two servers, because the real hub sends downloads to another host: the hub answers ``resolve`` with a
redirect to the store, which (as the real one) refuses a request that carries the hub's token.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub.blob import Blob

TOKEN = "hf_the_right_one"


@dataclass
class Repository:
    """One repository of the hub."""

    files: dict[str, Blob]
    license: str = "apache-2.0"
    downloads: int = 100
    gated: bool = False
    private: bool = False
    small: tuple[str, ...] = ()
    """Files that are stored in git itself."""
    gguf: dict[str, Any] | None = None
    sha: str = "c0ffee" + "0" * 34
    tags: tuple[str, ...] = ("gguf",)


@dataclass
class Seen:
    """A request."""

    server: str
    method: str
    path: str
    query: dict[str, list[str]]
    start: int
    """First byte that was asked for, -1 without a range."""
    token: str
    agent: str
    n_sent: int = 0
    """Bytes of a file that went out."""


@dataclass
class Faults:
    """What goes wrong. Set the fields while the servers run."""

    cut_after: int = 0
    """Bytes after which every connection to the store breaks."""
    statuses: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)
    """Answers by the kind of the request (``api``, ``resolve``, ``store``): each once, the last for ever;
    a status below 300 lets the request through."""
    hold_after: int = -1
    """Bytes after which the store falls silent until ``go_on`` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)
    holding: threading.Event = field(default_factory=threading.Event)
    """Set by the server when it has fallen silent."""
    no_ranges: bool = False
    corrupt_at: int = -1
    """A byte that arrives wrong."""
    total: int = 0
    """A length that the store gives in place of the right one."""
    stop_short: int = 0
    """Bytes of a range after which an answer ends as if that were all."""
    loop: bool = False
    """``resolve`` leads to itself."""
    garbage: bool = False
    """The API answers with a web page."""
    tree: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None
    """Changes the list of files."""


class LoopbackHub:
    """Both servers. ``hub.url`` is the endpoint."""

    def __init__(self) -> None:
        self.repos: dict[str, Repository] = {}
        self.faults = Faults()
        self.seen: list[Seen] = []
        self.page_size = 1000
        self.open = False
        """False wants the token for private and gated repositories."""
        self._hub = _Server(self, "hub")
        self._store = _Server(self, "store")

    @property
    def url(self) -> str:
        """Of the hub."""
        return self._hub.url

    @property
    def store_url(self) -> str:
        """Of the store."""
        return self._store.url

    def add(self, name: str, files: dict[str, Blob | bytes], **more: Any) -> Repository:
        """Make a repository."""
        blobs = {p: b if isinstance(b, Blob) else Blob.of(b) for p, b in files.items()}
        repo = self.repos[name] = Repository(blobs, **more)
        return repo

    def fetched(self, server: str = "store") -> int:
        """Bytes of files that went out."""
        return sum(s.n_sent for s in self.seen if s.server == server)

    def requests(self, part: str) -> list[Seen]:
        """Requests with ``part`` in their path."""
        return [s for s in self.seen if part in s.path]

    def close(self) -> None:
        """Stop both servers."""
        self.faults.go_on.set()
        for server in (self._hub, self._store):
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: LoopbackHub, kind: str) -> None:
        self.hub = hub
        self.kind = kind
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to the terminal."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    # ------------------------------------------------------------------ routing

    def _answer(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        ranged = self.headers.get("Range", "")
        start = int(ranged.removeprefix("bytes=").split("-")[0]) if ranged else -1
        path = unquote(url.path)
        self.note = Seen(
            self.server.kind,
            self.command,
            path,
            parse_qs(url.query),
            start,
            self.headers.get("Authorization", ""),
            self.headers.get("User-Agent", ""),
        )
        hub.seen.append(self.note)
        if self.server.kind == "store":
            kind, act = "store", self._store
        elif path.startswith("/api/"):
            kind, act = "api", self._api
        else:
            kind, act = "resolve", self._resolve
        planned = hub.faults.statuses.get(kind)
        if planned:
            status, headers = planned.pop(0) if len(planned) > 1 else planned[0]
            if status >= 300:
                return self._fail(status, **headers)
        act(path)

    def _fail(self, status: int, code: str = "", said: str = "", **headers: str) -> None:
        extra = {k.replace("_", "-"): v for k, v in headers.items()}
        if code:
            extra["X-Error-Code"] = code
        if said:
            extra["X-Error-Message"] = said
        self._send(status, json.dumps({"error": said or "no"}).encode(), extra)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        kind = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in (kind | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _allowed(self, name: str) -> Repository | None:
        """The repository, or None after the refusal was sent."""
        hub = self.server.hub
        repo = hub.repos.get(name)
        right = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.headers.get("Authorization") and not right:
            self._fail(401, said="Invalid credentials in Authorization header")
        elif repo is None or (repo.private and not right):
            # The real hub tells those without a token nothing about what exists.
            self._fail(404 if right else 401, "RepoNotFound", "Repository not found")
        else:
            return repo
        return None

    # ------------------------------------------------------------------ the API

    def _api(self, path: str) -> None:
        if self.server.hub.faults.garbage:
            return self._send(200, b"<html>Log in to the network</html>", {"Content-Type": "text/html"})
        parts = path.removeprefix("/api/").split("/")
        if parts[0] != "models":
            return self._fail(404)
        if len(parts) == 1:
            return self._list()
        name = "/".join(parts[1:3])
        repo = self._allowed(name)
        if repo is None:
            return
        if parts[3:4] == ["tree"]:
            return self._tree(name, repo)
        if parts[3:4] == ["revision"] and parts[4] not in ("main", repo.sha):
            return self._fail(404, "RevisionNotFound")
        self._send(200, json.dumps(self._info(name, repo)).encode())

    def _info(self, name: str, repo: Repository) -> dict[str, Any]:
        return {
            "id": name,
            "sha": repo.sha,
            "gated": "manual" if repo.gated else False,
            "private": repo.private,
            "downloads": repo.downloads,
            "tags": [*repo.tags, f"license:{repo.license}"],
            "gguf": repo.gguf,
            "siblings": [{"rfilename": path} for path in repo.files],
        }

    def _list(self) -> None:
        query = self.note.query
        words = query.get("search", [""])[0].lower().split()
        tags = query.get("filter", [])
        found = [
            self._info(name, repo)
            for name, repo in self.server.hub.repos.items()
            if all(w in name.lower() for w in words) and set(tags) <= set(repo.tags) and not repo.private
        ]
        found.sort(key=lambda item: -item["downloads"])
        limit = int(query.get("limit", ["1000"])[0])
        self._send(200, json.dumps(found[:limit]).encode())

    def _tree(self, name: str, repo: Repository) -> None:
        entries: list[dict[str, Any]] = []
        for path, blob in repo.files.items():
            entry = {
                "type": "file",
                "path": path,
                "size": blob.size,
                "oid": blob.git_oid if path in repo.small else "0" * 40,
            }
            if path not in repo.small:
                entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
            entries.append(entry)
        entries.append({"type": "directory", "path": "folder", "oid": "1" * 40})
        change = self.server.hub.faults.tree
        entries = change(entries) if change else entries
        at = int(self.note.query.get("cursor", ["0"])[0])
        size = self.server.hub.page_size
        headers = {}
        if at + size < len(entries):
            headers["Link"] = (
                f'<{self.server.url}{quote(self.note.path)}?recursive=True&cursor={at + size}>; rel="next"'
            )
        self._send(200, json.dumps(entries[at : at + size]).encode(), headers)

    # ------------------------------------------------------------------ bytes

    def _resolve(self, path: str) -> None:
        hub = self.server.hub
        owner, name, word, revision, file = [*path[1:].split("/", 4), "", "", "", ""][:5]
        if word != "resolve":
            return self._fail(404)
        if hub.faults.loop:
            return self._send(302, b"", {"Location": f"{self.server.url}{quote(path)}"})
        repo = self._allowed(f"{owner}/{name}")
        if repo is None:
            return
        if repo.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._fail(401, "GatedRepo", f"Access to model {owner}/{name} is restricted.")
        if repo.gated and not hub.open:
            return self._fail(403, "GatedRepo", f"Access to model {owner}/{name} is restricted.")
        if revision not in ("main", repo.sha):
            return self._fail(404, "RevisionNotFound")
        blob = repo.files.get(file)
        if blob is None:
            return self._fail(404, "EntryNotFound", "Entry not found")
        if file in repo.small:
            return self._bytes(blob)
        location = f"{hub.store_url}/{quote(owner)}/{quote(name)}/{quote(file)}?signature=secret"
        headers = {
            "Location": location,
            "X-Repo-Commit": repo.sha,
            "X-Linked-Size": str(blob.size),
            "X-Linked-ETag": f'"{blob.sha256}"',
            "ETag": f'"{blob.sha256}"',
        }
        self._send(302, b"", headers)

    def _store(self, path: str) -> None:
        if self.headers.get("Authorization"):
            return self._fail(400, said="Only one way to prove who you are, please")
        owner, name, file = path[1:].split("/", 2)
        self._bytes(self.server.hub.repos[f"{owner}/{name}"].files[file])

    def _bytes(self, blob: Blob) -> None:
        faults = self.server.hub.faults
        ranged = self.headers.get("Range", "") if not faults.no_ranges else ""
        start, end = 0, blob.size
        total = faults.total or blob.size
        if ranged:
            first, _, last = ranged.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else total, total)
            if start >= total:
                return self._fail(416, Content_Range=f"bytes */{total}")
        length = end - start
        if faults.stop_short and ranged:
            length = min(length, faults.stop_short)
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(length if not faults.total or ranged else total))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{total}")
        self.send_header("ETag", f'"{blob.sha256}"')
        self.end_headers()
        if self.command == "GET":
            self._pour(blob, start, length)

    def _pour(self, blob: Blob, start: int, length: int) -> None:
        faults, at, end = self.server.hub.faults, start, start + length
        while at < end:
            n = min(end - at, 1 << 18)
            sent = at - start
            if faults.cut_after:
                n = min(n, faults.cut_after - sent)
            if faults.hold_after >= 0 and sent <= faults.hold_after < sent + n and not faults.go_on.is_set():
                n = faults.hold_after - sent
            if n <= 0 and faults.cut_after and sent >= faults.cut_after:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if n <= 0:
                self.wfile.flush()
                faults.holding.set()
                faults.go_on.wait(60)
                continue
            data = bytearray(blob.read(at, n))
            if at <= faults.corrupt_at < at + n:
                data[faults.corrupt_at - at] ^= 0xFF
            self.note.n_sent += len(data)
            self.wfile.write(data)
            at += n


@contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    """A hub for the time of a ``with`` statement."""
    hub = LoopbackHub()
    try:
        yield hub
    finally:
        hub.close()
