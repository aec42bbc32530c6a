"""The whole evaluation: every setting's divergence and recall, with what was measured before kept.

Runs in any process without llama.cpp; a child does the work. If the child dies while it measures
several settings, each of them is tried alone, and the one that fails alone is marked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any

from quantize.errors import EngineDiedError, StretchError
from quantize.lab.candidate import Candidate, in_groups
from quantize.lab.floor import MOST_TOKENS, NOISE
from quantize.lab.footprint import Footprint
from quantize.lab.notebook import Notebook
from quantize.lab.process import LabProcess
from quantize.lab.recall import RecallTask, wilson

FIGURES = (
    "n_tokens",
    "kld_mean",
    "kld_mean_error",
    "kld_median",
    "kld_p99",
    "kld_p999",
    "kld_max",
    "top1",
    "rms_dp",
    "ppl",
)
"""Fields of ``divergence.Summary``."""

FLOOR_FIGURES = ("n_tokens", "kld_mean", "kld_mean_error", "kld_median", "kld_p999", "top1")
"""Those of the noise floor."""

_REPLY_TOKENS = 40
"""Tokens that a question and its reply take, for the estimate of the time."""


@dataclass(frozen=True, slots=True)
class EvalPlan:
    """What is measured of every setting."""

    text: str
    n_ctx: int
    """Tokens of the text that are read."""
    recall: RecallTask | None
    room: int
    """Bytes that all caches which are open at the same time may take."""
    n_prompt: int = 0
    """Tokens that are read before the comparison begins."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the evaluation is."""

    labels: str
    what: str
    """``answers``, ``recall`` or ``noise``."""
    n_done: int
    n_total: int
    fraction: float
    """Of the whole."""
    eta_s: float
    """Seconds that are left; negative if that is not known yet."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The loss that rounding noise makes (``floor.py``). Figures are None if it could not be measured."""

    noise: float = NOISE
    """Relative change of each value."""
    n_tokens: int | None = None
    kld_mean: float | None = None
    kld_mean_error: float | None = None
    kld_median: float | None = None
    kld_p999: float | None = None
    top1: float | None = None
    failed: str = ""
    """Why not, in one sentence."""

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Row:
    """Everything that was found out about one setting. Figures that are missing are None."""

    label: str
    kind: str
    """``cache`` for cache types; else the method."""
    setting: dict[str, Any]
    """Everything that the setting is made of."""
    type_k: str
    type_v: str
    tail: int
    bits_k: float
    bits_v: float
    bytes_per_token: float
    kv_bytes: int
    tail_bytes: int
    n_ctx: int
    kernel: str = ""
    n_tokens: int | None = None
    kld_mean: float | None = None
    kld_mean_error: float | None = None
    kld_median: float | None = None
    kld_p99: float | None = None
    kld_p999: float | None = None
    kld_max: float | None = None
    top1: float | None = None
    rms_dp: float | None = None
    ppl: float | None = None
    recall: float | None = None
    recall_low: float | None = None
    """95% interval (Wilson)."""
    recall_high: float | None = None
    recall_hits: int | None = None
    recall_asked: int | None = None
    recall_answers: str = ""
    """1 for right and 0 for wrong, in the order of the questions, which is the same for all settings."""
    failed: str = ""
    """Why something was not measured, in one sentence."""

    @property
    def size(self) -> float:
        """Bytes per token at the measured length, the window included: what the setting is judged by."""
        return self.kv_bytes / self.n_ctx

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def make_row(
    candidate: Candidate,
    n_ctx: int,
    divergence: dict[str, Any] | None,
    answers: str = "",
    failed: str = "",
) -> Row:
    """Put the figures of one setting together."""
    setting = candidate.setting
    figures = {name: divergence[name] for name in FIGURES} if divergence else {}
    if answers:
        hits, n = answers.count("1"), len(answers)
        low, high = wilson(hits, n)
        figures |= {
            "recall": hits / n,
            "recall_low": low,
            "recall_high": high,
            "recall_hits": hits,
            "recall_asked": n,
            "recall_answers": answers,
        }
    found = divergence.get("footprint") if divergence else None
    footprint = Footprint(**found) if found else None
    sizes = footprint or candidate
    return Row(
        label=setting.label,
        kind=setting.kind,
        setting=setting.data(),
        type_k=setting.pair.k.name,
        type_v=setting.pair.v.name,
        tail=setting.tail,
        bits_k=sizes.bits_k,
        bits_v=sizes.bits_v,
        bytes_per_token=sizes.bytes_per_token,
        kv_bytes=round(footprint.bytes_per_token * n_ctx) if footprint else candidate.kv_bytes,
        tail_bytes=candidate.tail_bytes,
        n_ctx=n_ctx,
        kernel=divergence["kernel"] if divergence else "",
        failed=failed,
        **figures,
    )


def evaluate(
    process: LabProcess, plan: EvalPlan, candidates: Sequence[Candidate], notebook: Notebook
) -> Iterator[Progress | Floor | Row]:
    """Measure every candidate; the first one has to be the reference.

    Yields:
        progress, the noise floor, and then a row for each candidate in their order.

    Raises:
        StretchError: if the model or the reference cannot be measured at all.
    """
    return _Evaluation(process, plan, notebook).run(candidates)


@dataclass
class _Evaluation:
    process: LabProcess
    plan: EvalPlan
    notebook: Notebook
    failures: dict[str, str] = field(default_factory=dict)
    total: int = 0
    done: int = 0
    began: float = 0.0

    def run(self, candidates: Sequence[Candidate]) -> Iterator[Progress | Floor | Row]:
        reference, *others = candidates
        if not reference.setting.is_reference:
            raise ValueError("the first candidate is the reference")
        self.failures = {c.setting.label: c.refused for c in candidates if c.refused}
        missing = [c for c in others if not self._known("divergence", c)]
        room = self.plan.room - reference.context_bytes
        groups = in_groups(missing, room) or ([] if self._known("divergence", reference) else [[]])
        self.total = self._cost(groups, candidates)
        self.began = monotonic()
        yield from self._floor()
        waiting = list(candidates)
        for i, group in enumerate(groups):
            yield from self._divergence(group, reference)
            later = {c.setting.label for g in groups[i + 1 :] for c in g}
            while waiting and waiting[0].setting.label not in later:
                yield from self._finish(waiting.pop(0))
        for candidate in waiting:
            yield from self._finish(candidate)

    def _finish(self, candidate: Candidate) -> Iterator[Progress | Row]:
        """What comes after the divergence of a setting."""
        yield from self._recall(candidate)
        yield self._row(candidate)

    def _cost(self, groups: Sequence[Sequence[Candidate]], candidates: Sequence[Candidate]) -> int:
        """Tokens that have to be read."""
        tokens = sum(self.plan.n_ctx * (1 + len(group)) for group in groups)
        tokens += 0 if "noise" in self.notebook else self._floor_cost()
        return tokens + self._recall_cost() * sum(not self._known("recall", c) for c in candidates)

    def _floor_cost(self) -> int:
        return min(self.plan.n_ctx, MOST_TOKENS) * 3 // 2

    def _recall_cost(self) -> int:
        task = self.plan.recall
        return task.n_texts * task.n_tokens + task.n_questions * _REPLY_TOKENS if task else 0

    def _known(self, what: str, candidate: Candidate) -> bool:
        label = candidate.setting.label
        return label in self.failures or f"{what} {label}" in self.notebook

    def _row(self, candidate: Candidate) -> Row:
        label = candidate.setting.label
        recall = self.notebook.get(f"recall {label}") if self.plan.recall else None
        return make_row(
            candidate,
            self.plan.n_ctx,
            self.notebook.get(f"divergence {label}"),
            recall["answers"] if recall else "",
            self.failures.get(label, ""),
        )

    def _progress(self, labels: str, what: str, n: int, of: int, cost: int) -> Progress:
        done = self.done + cost * min(n, of) // max(of, 1)
        elapsed = monotonic() - self.began
        fraction = min(done / self.total, 1.0) if self.total else 1.0
        eta = elapsed * (1 - fraction) / fraction if fraction > 0.005 else -1.0
        return Progress(labels, what, n, of, fraction, eta)

    # ------------------------------------------------------------------ the measurements

    def _floor(self) -> Iterator[Progress | Floor]:
        """A floor that cannot be measured is missing; everything else is measured all the same."""
        if "noise" not in self.notebook:
            n, cost = min(self.plan.n_ctx, MOST_TOKENS), self._floor_cost()
            yield self._progress("noise floor", "noise", 0, cost, cost)
            try:
                for event in self.process.run({"job": "floor", "text": self.plan.text, "n_tokens": n}):
                    if event["event"] == "progress":
                        yield self._progress("noise floor", "noise", event["n"], cost, cost)
                    else:
                        self.notebook.put("noise", {name: event[name] for name in FLOOR_FIGURES})
            except StretchError as error:
                self.done += cost
                yield Floor(failed=error.message)
                return
            self.done += cost
        yield Floor(**(self.notebook.get("noise") or {}))

    def _divergence(self, group: list[Candidate], reference: Candidate) -> Iterator[Progress]:
        labels = ", ".join(c.setting.label for c in group) or reference.setting.label
        cost, n_ctx = self.plan.n_ctx * (1 + len(group)), self.plan.n_ctx
        job = {
            "job": "divergence",
            "settings": [c.setting.data() for c in group],
            "text": self.plan.text,
            "n_ctx": n_ctx,
            "n_prompt": self.plan.n_prompt,
        }
        yield self._progress(labels, "answers", 0, n_ctx, cost)
        try:
            for event in self.process.run(job):
                if event["event"] == "progress":
                    yield self._progress(labels, "answers", event["n"], n_ctx, cost)
                elif event["failed"]:
                    self.failures[event["label"]] = event["failed"]
                else:
                    figures = {name: event[name] for name in (*FIGURES, "kernel", "footprint")}
                    self.notebook.put(f"divergence {event['label']}", figures)
        except EngineDiedError as death:
            if not group:
                raise
            if len(group) == 1:
                self.failures[group[0].setting.label] = death.message
                self.done += cost
                if not self._known("divergence", reference):
                    yield from self._divergence([], reference)
                return
            self.total += self.plan.n_ctx * (len(group) - 1)
            for one in group:
                if not self._known("divergence", one):
                    yield from self._divergence([one], reference)
            return
        self.done += cost

    def _recall(self, candidate: Candidate) -> Iterator[Progress]:
        task, label = self.plan.recall, candidate.setting.label
        if task is None or self._known("recall", candidate):
            return
        job = {
            "job": "recall",
            "setting": candidate.setting.data(),
            "task": asdict(task),
            "text": self.plan.text,
        }
        cost = self._recall_cost()
        yield self._progress(label, "recall", 0, task.n_questions, cost)
        try:
            for event in self.process.run(job):
                if event["event"] == "progress":
                    yield self._progress(label, "recall", event["n"], task.n_questions, cost)
                else:
                    self.notebook.put(f"recall {label}", {"answers": event["answers"]})
        except StretchError as error:
            if candidate.setting.is_reference:
                raise
            self.failures[label] = f"Recall was not measured: {error.message}"
        self.done += cost
