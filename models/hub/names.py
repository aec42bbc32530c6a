"""What people call a model on the hub, and what the names of its files say.

::

    owner/repo                     the quantization that suits this machine best
    owner/repo:Q4_K_M              one quantization
    owner/repo/file.gguf           exactly this file
    hf:owner/repo                  the same with a prefix that no path has
    https://huggingface.co/owner/repo/blob/main/file.gguf

A local path always wins: whoever means a file in a folder gets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from models.splits import PART
from quantize.errors import UsageError

_PREFIX = re.compile(r"^(?:hf:(?://)?|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)", re.IGNORECASE)
_BROWSED = re.compile(r"^(?:blob|resolve|tree|raw)/[^/]+(?:/|$)")
_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_QUANT = re.compile(
    r"(?:^|[-_./])"
    r"((?:UD-)?(?:I?Q\d(?:_(?:\d|K|S|M|L|XL|XS|XXS|NL|G\d+)(?![A-Za-z0-9]))*|P?Q\d_\d(?:_G\d+)?|TQ\d_\d"
    r"|BF16|FP?16|FP?32|MXFP4(?:_MOE)?|NVFP4))"
    r"(?=$|[-_./])",
    re.IGNORECASE,
)
_COMPANION = re.compile(
    r"mmproj|(?:^|[-_./])(?:imatrix|mtp|draft|drafter|eagle\d?)(?=[-_./]|$)", re.IGNORECASE
)
_MOST_NAME_BYTES = 240
"""Of one part of a path: 255 is the limit of most file systems, and a download appends to the name."""


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository and what is wanted of it."""

    repo: str
    """``owner/repo``"""
    file: str = ""
    """Path of a file in it, or empty."""
    quant: str = ""
    """A quantization such as ``Q4_K_M``, or empty."""

    def __str__(self) -> str:
        return self.repo + (f"/{self.file}" if self.file else f":{self.quant}" if self.quant else "")


def parse_name(text: str) -> HubName | None:
    """What ``text`` names on the hub, None if it cannot be such a name.

    Raises:
        UsageError: if it begins like a name of the hub (``hf:``) and then is none.
    """
    text = text.strip()
    rest = _PREFIX.sub("", text)
    explicit = rest != text
    found = _parse(rest.split("?", 1)[0].split("#", 1)[0] if explicit else rest)
    if found is None and explicit:
        raise UsageError(
            f"{text!r} names no model on the hub.",
            "Write owner/repo, owner/repo:Q4_K_M or owner/repo/file.gguf.",
        )
    return found


def _parse(text: str) -> HubName | None:
    if text.startswith(("/", "~", ".")) or "\\" in text:
        return None
    parts = text.split("/", 2)
    if len(parts) < 2:
        return None
    owner, (repo, colon, quant) = parts[0], parts[1].partition(":")
    file = _BROWSED.sub("", parts[2]) if len(parts) > 2 else ""
    if not is_repo(f"{owner}/{repo}") or repo.lower().endswith(".gguf"):
        return None
    if colon:
        good = re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", quant) and not file
        return HubName(f"{owner}/{repo}", quant=quant.upper()) if good else None
    if file and (problem_of_path(file) or not file.lower().endswith(".gguf")):
        return None
    return HubName(f"{owner}/{repo}", file)


def is_repo(text: str) -> bool:
    """Whether ``text`` is ``owner/repo`` by the hub's rules for names."""
    parts = text.split("/")
    return (
        len(parts) == 2
        and all(_REPO_PART.fullmatch(p) for p in parts)
        and len(text) <= 96
        and "--" not in text
        and ".." not in text
        and not text.endswith(".git")
    )


def problem_of_path(path: str) -> str:
    """Why a file of a repository must not be stored under ``path``, or an empty string.

    The list of files comes from somewhere else: a path in it could leave the directory of the
    models, hide, or be too long for the file system.
    """
    parts = path.split("/")
    if not path or path.startswith("/") or "\\" in path or ":" in path:
        return "it is not a path inside the repository"
    if any(p in ("", ".", "..") for p in parts):
        return "it leads out of the repository"
    if any(p.startswith(".") for p in parts):
        return "it is hidden"
    if not path.isprintable():
        return "it has characters that cannot be shown"
    if len(parts) > 8 or any(len(p.encode("utf-8", "replace")) > _MOST_NAME_BYTES for p in parts):
        return "it is too long"
    return ""


def quant_of(path: str) -> str:
    """The quantization that a file's name states (``Q4_K_M``), or empty. The folder counts last."""
    stem = re.sub(r"\.gguf$", "", PART.sub("", path), flags=re.IGNORECASE)
    for text in (stem.rsplit("/", 1)[-1], stem):
        found = _QUANT.findall(text)
        if found:
            return str(found[-1]).upper()
    return ""


def is_companion(path: str) -> bool:
    """Whether a file belongs to a model without being one: a projector, statistics, a draft head."""
    return bool(_COMPANION.search(path))


def part_of(path: str) -> tuple[str, int, int]:
    """Name without its part, number of the part (from 1) and count; (path, 1, 1) for a whole file."""
    match = PART.search(path)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= 1000:
        return path, 1, 1
    return f"{path[: match.start()]}.gguf", int(match[1]), int(match[2])


def matching(quant: str, labels: Iterable[str]) -> str:
    """The label that ``quant`` means: itself, else the only one with a maker's prefix or a suffix."""
    labels = list(labels)
    wanted = quant.upper()
    if wanted in labels:
        return wanted
    near = [x for x in labels if x == f"UD-{wanted}" or x.removeprefix("UD-").startswith(f"{wanted}_")]
    return near[0] if len(near) == 1 else ""
