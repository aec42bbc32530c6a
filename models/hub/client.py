"""Asks the hub: what is there, what belongs to it, and where its bytes are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any

from models.hub import faults
from models.hub.files import HubFile, Repo, put_together
from models.hub.session import HubSession, use_session

# isort: split
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._headers import build_hf_headers

from quantize.errors import HubError

MOST_FILES = 20_000
"""Files of one repository that are looked at."""


@dataclass(frozen=True, slots=True)
class Found:
    """A repository that a search found."""

    repo: str
    downloads: int
    """In the last thirty days."""
    n_parameters: int
    """0 if the hub does not know."""
    license: str
    gated: bool
    architecture: str
    n_ctx_train: int


class Hub:
    """One hub, seen with one token.

    Args:
        endpoint: its address; None takes ``HF_ENDPOINT`` or the usual one.
        token: None takes the one that the person has logged in with, False sends none.
    """

    def __init__(self, endpoint: str | None = None, token: str | bool | None = None) -> None:
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._token = token
        use_session(self.endpoint)
        self._api = HfApi(self.endpoint, token=token, library_name="stretch", library_version=_version())

    def search(self, text: str, limit: int = 30) -> list[Found]:
        """Repositories with GGUF files whose names match ``text``, the most downloaded first.

        Raises:
            HubError: if the hub cannot say.
        """
        with self._asking(""):
            listed = self._api.list_models(
                search=text.strip() or None,
                filter="gguf",
                sort="downloads",
                limit=limit,
                expand=["downloads", "gated", "gguf", "tags"],
            )
            return [_found(item) for item in islice(listed, limit)]

    def repo(self, name: str, revision: str | None = None) -> Repo:
        """What the repository ``owner/repo`` holds now, or at a commit.

        Raises:
            HubError: if there is none, or this account must not see it.
        """
        with self._asking(name):
            info = self._api.model_info(name, revision=revision)
            revision = revision or info.sha or constants.DEFAULT_REVISION
            tree = self._api.list_repo_tree(name, recursive=True, revision=revision)
            files = [
                HubFile(str(item.path), _size(item.size), _digest(item))
                for item in islice(tree, MOST_FILES)
                if isinstance(item, RepoFile)
            ]
        models, companions, refused = put_together(files)
        return Repo(
            name,
            revision,
            _license(info),
            int(info.downloads or 0),
            bool(info.gated),
            tuple(models),
            tuple(companions),
            tuple(refused),
        )

    def url(self, repo: str, path: str, revision: str) -> str:
        """Where the bytes of a file are."""
        return hf_hub_url(repo, path, revision=revision, endpoint=self.endpoint)

    def headers(self) -> dict[str, str]:
        """What a request for bytes carries."""
        made: dict[str, str] = build_hf_headers(
            token=self._token, library_name="stretch", library_version=_version()
        )
        return made | {"accept-encoding": "identity"}

    @property
    def has_token(self) -> bool:
        """Whether a token is sent."""
        return "authorization" in self.headers()

    def session(self) -> HubSession:
        """A client of its own, for one download."""
        return HubSession()

    @contextmanager
    def _asking(self, about: str) -> Iterator[None]:
        """Turn every way in which asking can fail into a sentence."""
        try:
            yield
        except HubError:
            raise
        except HFValidationError:
            raise HubError(f"{about!r} is no name of a repository.", "Write owner/repo.") from None
        except HfHubHTTPError as error:
            response = error.response
            raise faults.refused(
                response.status_code, response.headers, about, self.endpoint, self.has_token
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError):  # an answer of another shape
            raise faults.strange(self.endpoint) from None


def _found(item: Any) -> Found:
    gguf = item.gguf if isinstance(item.gguf, dict) else {}
    return Found(
        str(item.id),
        int(item.downloads or 0),
        _number(gguf.get("total")),
        _license(item),
        bool(item.gated),
        str(gguf.get("architecture") or ""),
        _number(gguf.get("context_length")),
    )


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 48:
        raise ValueError("no size of a file")
    return value


def _digest(item: Any) -> str:
    """The hash that the hub gives: of the content of a large file, of git's object else."""
    kind, digits, n = ("sha256", item.lfs.sha256, 64) if item.lfs else ("git", item.blob_id, 40)
    if not re.fullmatch(rf"[0-9a-f]{{{n}}}", str(digits)):
        raise ValueError("no hash")
    return f"{kind}:{digits}"


def _version() -> str:
    try:
        return version("stretch-chat")
    except PackageNotFoundError:
        return "0"


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _license(item: Any) -> str:
    """``apache-2.0``, from the tags."""
    tags = [t for t in item.tags or () if isinstance(t, str)]
    return next((t.removeprefix("license:") for t in tags if t.startswith("license:")), "")
