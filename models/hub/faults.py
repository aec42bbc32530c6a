"""What the hub's refusals mean: one sentence and the next step for each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from quantize.errors import HubError, HubUnavailableError

TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed later."""

_RESET = re.compile(r";\s*r\s*=\s*(\d+)\s*;\s*t\s*=\s*(\d+)")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")
_LONGEST_WAIT = 24 * 3600.0


def refused(status: int, headers: Mapping[str, str], about: str, endpoint: str, token: bool) -> HubError:
    """The error for a status of 400 or more.

    Args:
        headers: of the answer, with their names in any case.
        about: the repository or the file that was asked for, or empty for the hub itself.
        token: whether a token was sent.
    """
    code = headers.get("X-Error-Code", "")
    said = headers.get("X-Error-Message", "")
    repo = "/".join(about.split("/")[:2])
    what = about or "this"
    if code == "GatedRepo" or (status == 403 and "gated" in said.lower()):
        ask = f"Accept its terms at {endpoint}/{repo}"
        then = (
            "with the account of your token, then try again."
            if token
            else ("and log in with `hf auth login`, or set HF_TOKEN.")
        )
        return HubError(f"{repo} is gated: its owner wants its terms accepted first.", f"{ask} {then}")
    if status == 401 and (token or "invalid credentials" in said.lower()):
        return HubError(
            "The hub does not accept the token: it is wrong or has expired.",
            f"Make a new one at {endpoint}/settings/tokens and log in with `hf auth login`.",
        )
    if code == "EntryNotFound":
        return HubError(f"The hub has no file {about}.", f"stretch pull {repo} lists what is there.")
    if status in (401, 404):
        hint = "Check the name; stretch search finds models."
        if status == 401 or not token:
            hint += " If it is private, log in with `hf auth login`, or set HF_TOKEN."
        return HubError(f"There is no {what} on the hub.", hint)
    if status == 403:
        return HubError(
            f"The hub does not let this account have {what}.",
            "Check what the token may do." if token else "Log in with `hf auth login`, or set HF_TOKEN.",
        )
    if status == 429:
        wait = retry_after(headers)
        when = f"in {_seconds(wait)}" if wait else "in a few minutes"
        hint = f"Try again {when}."
        if not token:
            hint += " With a token (`hf auth login`) more is allowed."
        return HubUnavailableError("The hub has had too many requests from here.", hint, wait)
    if status in TRANSIENT or status >= 500:
        return HubUnavailableError(
            f"The hub has trouble of its own (status {status}).",
            "Try again in a few minutes.",
            retry_after(headers),
        )
    return HubError(f"The hub refused {what} (status {status}).", "Check the name.")


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds until the hub answers again, 0 if it does not say."""
    limit = _RESET.search(headers.get("RateLimit", ""))
    if limit and int(limit[1]) == 0:
        return min(float(limit[2]), _LONGEST_WAIT)
    text = headers.get("Retry-After", "").strip()
    return min(float(text), _LONGEST_WAIT) if text.isascii() and text.isdigit() else 0.0


def unreachable(endpoint: str, reason: str, *, proxy: bool = False) -> HubUnavailableError:
    """The error for a hub that does not answer."""
    host = re.sub(r"^https?://", "", endpoint)
    if proxy:
        return HubUnavailableError(
            f"The proxy does not lead to {host} ({reason}).", "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
        )
    check = (
        "the connection and the proxy settings" if any(map(os.environ.get, _PROXIES)) else "the connection"
    )
    return HubUnavailableError(f"{host} cannot be reached ({reason}).", f"Check {check} and try again.")


def offline() -> HubError:
    """The error for a wish to use the network where that is switched off."""
    return HubError(
        "The hub is not asked, because HF_HUB_OFFLINE is set.", "Unset it to search and to download."
    )


def strange(endpoint: str) -> HubError:
    """The error for an answer that makes no sense."""
    host = re.sub(r"^https?://", "", endpoint)
    return HubError(
        f"{host} does not answer like a model hub.",
        "Check HF_ENDPOINT, and whether a login page is in between.",
    )


def _seconds(n: float) -> str:
    return f"{n:.0f} seconds" if n < 120 else f"{n / 60:.0f} minutes"
