"""Every test of the hub gets one of its own, and no way out of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.hub.client import Hub
from models.hub.transfer import Patience
from tests.cli.conftest import environment, stretch  # noqa: F401  # fixtures of the commands
from tests.hub.server import LoopbackHub, loopback_hub

QUICK = Patience(first=0.001, longest=0.002, tries=4, longest_told=0.05)


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No token, proxy or mirror of whoever runs the tests."""
    for name in (
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def server() -> Iterator[LoopbackHub]:
    """The servers."""
    with loopback_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: LoopbackHub) -> Hub:
    """The real client, pointed at them, without a token."""
    return Hub(server.url, token=False)
