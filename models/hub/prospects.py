"""All quantizations of a model on the hub side by side: would they run here, and which is the best?"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from models.exact import ExactPlanner, exact_planner
from models.header import Header
from models.hub.client import Hub
from models.hub.control import Control
from models.hub.files import HubModel, Repo, usual
from models.hub.remote import RemoteHeader, read_remote
from models.hub.session import HubSession
from models.hub.transfer import Patience
from models.local import Verdict, judge
from quantize.errors import HubError, StretchError

COMFORTABLE_CTX = 8192
"""Tokens that the best quantization must reach with a q8_0 cache, unless the model was trained for fewer."""

FINE_BITS = 5.2
"""Bits per weight up to which finer weights are worth their time (Q4_K_M has 4.8 to 5.1)."""

SMALL_BYTES = 2 << 30
"""Up to this size of a file finer weights cost little time, and small models need them more."""

MOST_BITS = 8.6
"""Bits per weight beyond which nothing is gained (Q8_0 has 8.5)."""

_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Prospect:
    """One model of a repository, judged for this machine."""

    model: HubModel
    verdict: Verdict
    bits: float = 0.0
    """Bits per weight, 0 if the header was not read."""
    n_ctx_train: int = 0
    architecture: str = ""


class Prospects:
    """Reads headers from the hub and remembers them.

    Args:
        budget: bytes that a model may take, asked for again for every verdict.
    """

    def __init__(
        self,
        hub: Hub,
        budget: Callable[[], int],
        control: Control | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.hub = hub
        self._budget = budget
        self._control = control or Control()
        self._patience = patience
        self._headers: dict[str, RemoteHeader] = {}
        self._session: HubSession | None = None
        self._lock = threading.Lock()

    def header(self, repo: Repo, model: HubModel, like: RemoteHeader | None = None) -> RemoteHeader:
        """The header of a model.

        Raises:
            HubError: if the hub does not give it.
            ModelFileError: if it is damaged.
        """
        key = model.parts[0].digest
        known = self._headers.get(key)
        if known is None:
            with self._lock:
                self._session = self._session or self.hub.session()
            known = self._headers[key] = read_remote(
                self.hub,
                self._session,
                repo,
                model,
                like=like,
                control=self._control,
                patience=self._patience,
            )
        return known

    def judge(self, repo: Repo, model: HubModel, like: RemoteHeader | None = None) -> Prospect:
        """Whether a model would run here. One that cannot be read does not.

        Raises:
            HubError: if the hub does not give the header.
        """
        try:
            header = self.header(repo, model, like).header
        except HubError:
            raise
        except StretchError as error:
            return Prospect(model, Verdict(False, error.message, error.hint))
        verdict = judge(header, self._budget())
        n_ctx = header.get("context_length")
        return Prospect(
            model,
            replace(verdict, license=verdict.license or repo.license),
            _bits(header),
            n_ctx if isinstance(n_ctx, int) else 0,
            header.architecture,
        )

    def judge_all(self, repo: Repo) -> Iterator[Prospect]:
        """Every model of a repository as it becomes known, the usual one first.

        Raises:
            HubError: if the hub gives none of the headers.
        """
        if not repo.models:
            return
        first = usual(repo.models)
        yield self.judge(repo, first)
        like = self._headers.get(first.parts[0].digest)
        rest = [model for model in repo.models if model is not first]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="header") as pool:
            jobs = {pool.submit(self.judge, repo, model, like): model for model in rest}
            try:
                for job in as_completed(jobs):
                    try:
                        yield job.result()
                    except HubError as error:
                        yield Prospect(jobs[job], Verdict(False, error.message, error.hint))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def planner(
        self, repo: Repo, model: HubModel, *, repack: bool = True, memory: Path | None = None
    ) -> ExactPlanner:
        """What the engine's own allocator says about a model on the hub, without its weights.

        Args:
            memory: where answers are remembered.

        Raises:
            HubError: if the hub does not give the header.
            ModelFileError: if the engine does not take the file.
        """
        found = self.header(repo, model)
        key = model.parts[0].digest
        return exact_planner(found.source, found.header, repack=repack, memory_of_results=memory, key=key)

    def stop(self) -> None:
        """End what is being read, from another thread."""
        self._control.stop()

    def close(self) -> None:
        """Close the connections; what was read stays known."""
        with self._lock:
            if self._session is not None:
                self._session.close()
            self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def best(prospects: Sequence[Prospect]) -> Prospect | None:
    """The one that suits this machine best, None if none runs.

    Of those that run with a context to work in: the finest weights of at most ``FINE_BITS`` per
    weight or ``SMALL_BYTES`` in all, since every token reads all weights once and finer ones gain
    little; else the smallest. If none has room for such a context, the one with the longest.
    """
    running = [p for p in prospects if p.verdict.runnable]
    roomy = [p for p in running if _reach(p) >= min(COMFORTABLE_CTX, p.n_ctx_train or COMFORTABLE_CTX)]
    if not roomy:
        return max(running, key=_reach, default=None)
    quick = [p for p in roomy if p.model.size <= SMALL_BYTES or p.bits <= FINE_BITS]
    if not quick:
        return min(roomy, key=lambda p: p.model.size)
    plain = [p for p in quick if p.bits <= MOST_BITS]
    return max(plain or quick, key=lambda p: (p.bits, -p.model.size))


def _reach(prospect: Prospect) -> int:
    """Tokens with a q8_0 cache, or with the best other one where a model cannot have that."""
    rows = [row for row in prospect.verdict.rows if not row.refused]
    usual_row = [row.max_ctx for row in rows if row.type_k == row.type_v == "q8_0"]
    return usual_row[0] if usual_row else max((row.max_ctx for row in rows), default=0)


def _bits(header: Header) -> float:
    values = sum(t.n_elements for t in header.tensors)
    return 8 * sum(t.n_bytes for t in header.tensors) / values if values else 0.0
