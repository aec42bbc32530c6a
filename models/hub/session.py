"""The HTTP client for everything that goes to the hub, through ``huggingface_hub`` or directly.

The library's own client waits without a limit, tries again silently for half a minute, and writes
warnings over the screen. This one has time limits, turns failures into sentences at once, and
sends the token to no host but the hub's. Proxies and certificates follow the usual environment
variables.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any
from urllib.parse import urlsplit

from models.hub import faults
from quantize.errors import HubError

# What the library would send with every request (and a list that it would download for it) concerns
# nobody. It reads this when it is imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import httpx2
import huggingface_hub
from huggingface_hub.utils import logging as hub_logging

CONNECT_S, READ_S = 10.0, 30.0
"""Limits of time for a connection and for the next bytes of an answer."""

_endpoints: set[str] = set()
"""Where the token may go."""

_ready = threading.Lock()


class HubSession(httpx2.Client):
    """See the module. ``huggingface_hub`` gets it through ``set_client_factory``."""

    def __init__(self) -> None:
        """
        Raises:
            HubError: if a proxy is set that cannot be used.
        """
        try:
            super().__init__(
                follow_redirects=True,
                max_redirects=10,
                timeout=httpx2.Timeout(READ_S, connect=CONNECT_S),
                event_hooks={"request": [_before_request]},
            )
        except ImportError:  # httpx wants another package for it
            raise HubError(
                "A SOCKS proxy is set, and the Python package socksio is missing for it.",
                "Install socksio beside Stretch, or set HTTPS_PROXY to an http:// proxy.",
            ) from None
        except (ValueError, httpx2.InvalidURL):
            raise HubError(
                "The address of the proxy is not valid.", "Check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY."
            ) from None

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """As the client's own.

        Raises:
            HubError: if the hub cannot be reached, is busy, or must not be asked.
        """
        if is_offline():
            raise faults.offline()
        limits = request.extensions.setdefault("timeout", {})
        for name, seconds in (
            ("connect", CONNECT_S),
            ("read", READ_S),
            ("write", READ_S),
            ("pool", CONNECT_S),
        ):
            if limits.get(name) is None:  # the library asks for no limit at all
                limits[name] = seconds
        endpoint = _endpoint_of(request.url)
        try:
            response = super().send(request, **options)
        except httpx2.TooManyRedirects:
            raise faults.unreachable(endpoint, "it sends us round in circles") from None
        except httpx2.ProxyError as error:
            raise faults.unreachable(endpoint, reason_of(error), proxy=True) from None
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            raise faults.unreachable(endpoint, reason_of(error)) from None
        if response.status_code in faults.TRANSIENT:  # the library would wait and say nothing
            response.close()
            raise faults.refused(
                response.status_code, response.headers, "", endpoint, "authorization" in request.headers
            )
        return response


def use_session(endpoint: str) -> None:
    """Make the library use this client, and trust ``endpoint`` with the token."""
    with _ready:
        _endpoints.add(origin(endpoint))
        if not _installed:
            huggingface_hub.set_client_factory(HubSession)
            hub_logging.set_verbosity(logging.ERROR)
            _installed.append(True)


_installed: list[bool] = []


def is_offline() -> bool:
    """Whether the person said that the network is not to be used."""
    words = (os.environ.get("HF_HUB_OFFLINE", ""), os.environ.get("TRANSFORMERS_OFFLINE", ""))
    return any(word.upper() in ("1", "ON", "YES", "TRUE") for word in words)


def reason_of(error: Exception) -> str:
    """A few words about a failed connection."""
    match error:
        case httpx2.ConnectTimeout() | httpx2.PoolTimeout():
            return "no answer"
        case httpx2.TimeoutException():
            return "it fell silent"
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            return "its address is not valid"
    text = str(error)
    if "CERTIFICATE" in text.upper():
        return "its certificate is not trusted here"
    if any(word in text for word in ("Name or service", "nodename", "getaddrinfo", "name resolution")):
        return "the name is not known here: is there a connection?"
    if "refused" in text:
        return "it refuses connections"
    return "the connection broke"


def _before_request(request: httpx2.Request) -> None:
    """Called for every request, those of redirects and of further pages too."""
    if "authorization" in request.headers and origin(str(request.url)) not in _endpoints:
        del request.headers["authorization"]


def origin(url: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def _endpoint_of(url: httpx2.URL) -> str:
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{url.host}{port}"
