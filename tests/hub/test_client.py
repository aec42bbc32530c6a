"""The real library talks to the hub on loopback, and every refusal becomes a sentence."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from models.hub.client import Hub
from quantize.errors import HubError, HubUnavailableError
from tests.hub.blob import Blob
from tests.hub.server import TOKEN, LoopbackHub


def test_search_finds_gguf_repositories(server: LoopbackHub, hub: Hub) -> None:
    gguf = {"total": 4_022_468_096, "architecture": "qwen3", "context_length": 40960}
    server.add("one/Qwen3-4B-GGUF", {"m-Q4_0.gguf": b"x"}, downloads=5, gguf=gguf)
    server.add("two/Qwen3-4B-GGUF", {"m-Q4_0.gguf": b"x"}, downloads=50, license="mit", gated=True)
    server.add("one/Qwen3-4B", {"model.safetensors": b"x"}, tags=("safetensors",))
    server.add("one/other", {"m.gguf": b"x"})
    found = hub.search("qwen3 4b")
    assert [f.repo for f in found] == ["two/Qwen3-4B-GGUF", "one/Qwen3-4B-GGUF"]
    assert (found[0].license, found[0].gated, found[0].downloads) == ("mit", True, 50)
    assert (found[1].n_parameters, found[1].architecture, found[1].n_ctx_train) == (
        4_022_468_096,
        "qwen3",
        40960,
    )
    assert len(hub.search("", limit=2)) == 2
    assert hub.search("nothing like this") == []


def test_a_repository_is_listed_over_several_pages(server: LoopbackHub, hub: Hub) -> None:
    server.page_size = 3
    names = [f"m-Q{i}_0.gguf" for i in range(2, 9)]
    made = server.add("o/r", {n: n.encode() for n in names} | {"README.md": b"#"}, small=("m-Q2_0.gguf",))
    repo = hub.repo("o/r")
    assert sorted(m.path for m in repo.models) == names
    assert repo.revision == made.sha and repo.license == "apache-2.0"
    digests = {m.path: m.parts[0].digest for m in repo.models}
    assert digests["m-Q2_0.gguf"] == f"git:{Blob.of(b'm-Q2_0.gguf').git_oid}"
    assert digests["m-Q3_0.gguf"] == f"sha256:{Blob.of(b'm-Q3_0.gguf').sha256}"
    assert len(server.requests("/tree/")) == 3


def test_files_with_hostile_names_are_not_offered(server: LoopbackHub, hub: Hub) -> None:
    server.add(
        "o/r", {"good.gguf": b"x", "../../evil.gguf": b"x", "/etc/evil.gguf": b"x", "a\x1b[2J.gguf": b"x"}
    )
    repo = hub.repo("o/r")
    assert [m.path for m in repo.models] == ["good.gguf"]
    assert len(repo.refused) == 3 and "leads out of the repository" in repo.refused[0]
    assert "\x1b" not in "".join(repo.refused)


def test_nothing_is_told_about_the_person(server: LoopbackHub, hub: Hub) -> None:
    server.add("o/r", {"m.gguf": b"x"})
    hub.repo("o/r")
    assert {s.path for s in server.seen} == {
        "/api/models/o/r",
        f"/api/models/o/r/tree/{server.repos['o/r'].sha}",
    }
    assert all(re.fullmatch(r"stretch/[\d.]+; hf_hub/[\d.]+; python/[\d.]+", s.agent) for s in server.seen)


# --------------------------------------------------------------------------- refusals


def refusal(hub: Hub, name: str = "o/r") -> str:
    with pytest.raises(HubError) as caught:
        hub.repo(name)
    return str(caught.value)


def test_missing_private_and_unnamed(server: LoopbackHub, hub: Hub) -> None:
    server.add("o/secret", {"m.gguf": b"x"}, private=True)
    for name in ("o/nothing", "o/secret"):
        said = refusal(hub, name)
        assert f"There is no {name} on the hub." in said and "hf auth login" in said
    assert "no name of a repository" in refusal(hub, "o/../r")
    known = Hub(server.url, token=TOKEN)
    assert known.repo("o/secret").models
    assert "There is no o/nothing on the hub." in refusal(known, "o/nothing")


def test_a_wrong_token_is_called_wrong(server: LoopbackHub) -> None:
    server.add("o/r", {"m.gguf": b"x"})
    said = refusal(Hub(server.url, token="hf_old"))
    assert "wrong or has expired" in said and "/settings/tokens" in said and "hf_old" not in said


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (429, {"Retry_After": "37"}, "too many requests from here. Try again in 37 seconds. With a token"),
        (429, {"RateLimit": '"api";r=0;t=300'}, "Try again in 5 minutes."),
        (429, {}, "Try again in a few minutes."),
        (403, {}, "does not let this account have o/r"),
        (500, {}, "trouble of its own (status 500)"),
        (503, {}, "trouble of its own (status 503)"),
        (418, {}, "refused o/r (status 418)"),
        (403, {"code": "GatedRepo"}, "o/r is gated"),
    ],
)
def test_statuses(server: LoopbackHub, hub: Hub, status: int, headers: dict[str, str], words: str) -> None:
    server.add("o/r", {"m.gguf": b"x"})
    server.faults.statuses["api"] = [(status, headers)]
    said = refusal(hub)
    assert words in said
    assert len(server.seen) == 1, "the library does not try again behind our back"


def test_a_search_is_not_repeated_behind_our_back(server: LoopbackHub, hub: Hub) -> None:
    """The library would ask six times, over half a minute."""
    server.faults.statuses["api"] = [(503, {}), (200, {})]
    with pytest.raises(HubUnavailableError, match="trouble of its own"):
        hub.search("x")
    assert len(server.seen) == 1


def test_a_login_page_is_no_hub(server: LoopbackHub, hub: Hub) -> None:
    server.add("o/r", {"m.gguf": b"x"})
    server.faults.garbage = True
    assert "does not answer like a model hub" in refusal(hub)
    with pytest.raises(HubError, match="does not answer like a model hub"):
        hub.search("x")


def test_lists_of_another_shape_are_no_hub(server: LoopbackHub, hub: Hub) -> None:
    server.add("o/r", {"m.gguf": b"x"})
    wrong: list[dict[str, object]]
    for wrong in (
        [{"type": "file", "path": "m.gguf"}],
        [{"type": "file", "path": "m.gguf", "size": -1, "oid": "0" * 40}],
        [{"type": "file", "path": "m.gguf", "size": 1 << 60, "oid": "0" * 40}],
        [{"type": "file", "path": "m.gguf", "size": 5, "oid": "../../x"}],
        [
            {
                "type": "file",
                "path": "m.gguf",
                "size": 5,
                "oid": "0",
                "lfs": {"oid": "zz", "size": 5, "pointerSize": 1},
            }
        ],
    ):
        server.faults.tree = lambda entries, wrong=wrong: wrong  # type: ignore[misc]
        assert "does not answer like a model hub" in refusal(hub)


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(HubUnavailableError, match="cannot be reached") as caught:
        Hub(url, token=False).search("x")
    assert "it refuses connections" in str(caught.value)


def test_offline_asks_nobody(server: LoopbackHub, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in refusal(hub)
    assert server.seen == []


def test_a_proxy_is_used_and_blamed(
    server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub.utils import close_session

    monkeypatch.setenv("HTTP_PROXY", server.store_url)
    monkeypatch.setenv("NO_PROXY", "")
    close_session()
    try:
        with pytest.raises(HubError):
            Hub("http://hub.invalid", token=False).repo("o/r")
        assert server.seen and server.seen[0].server == "store", "the request went to the proxy"
    finally:
        close_session()


@pytest.mark.parametrize(
    ("proxy", "words"), [("socks5://127.0.0.1:9", "socksio"), ("ftp://proxy", "address of the proxy")]
)
def test_a_proxy_that_cannot_be_used(
    server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, proxy: str, words: str
) -> None:
    from huggingface_hub.utils import close_session

    hub = Hub(server.url, token=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    close_session()
    try:
        with pytest.raises(HubError, match=words):
            hub.search("x")
    finally:
        close_session()


def test_further_pages_elsewhere_get_no_token(server: LoopbackHub) -> None:
    """A list that goes on at another host is read there without the token."""
    server.add("o/r", {"m.gguf": b"x"})
    server.page_size = 1
    real = server._hub.url
    server._hub.url = server.store_url  # the links of the list lead to the store
    try:
        with pytest.raises(HubError):
            Hub(real, token=TOKEN).repo("o/r")
    finally:
        server._hub.url = real
    elsewhere = [s for s in server.seen if s.server == "store"]
    assert elsewhere and not any(s.token for s in elsewhere)
    assert all(s.token == f"Bearer {TOKEN}" for s in server.seen if s.server == "hub")
