"""The whole benchmark: every setting at every depth, the stock kernel and the own one in turn.

Two children stay loaded: one in which llama.cpp is as it is, one with the own kernel. Each repeat goes
once through all settings and kernels, so a machine that becomes slower meets all of them alike, and a
ratio is the median of the ratios of each repeat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from time import monotonic
from typing import Any

from quantize.errors import StretchError
from quantize.lab.candidate import Candidate
from quantize.lab.evaluate import Progress
from quantize.lab.process import LabProcess

KERNELS = ("stock", "own")

STOCK_NATIVE_DEPTH = 1024
"""Native types run through the stock kernel too, some twenty times slower: only up to this depth."""


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What is timed."""

    text: str
    depths: tuple[int, ...]
    repeats: int = 5
    n_decode: int = 32
    switch_depth: int = 0
    """Tokens of the conversation whose change of types is timed; 0 leaves it out."""


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """One setting at one depth with one kernel. Ratios that have no counterpart are None."""

    label: str
    type_k: str
    type_v: str
    tail: int
    bits_k: float
    bits_v: float
    bytes_per_token: float
    depth: int
    kernel: str
    """``stock`` or ``own``."""
    prefill_tps: float
    """Median over the repeats."""
    decode_tps: float
    prefill_vs_f16: float | None
    """Times as fast as f16 with the stock kernel."""
    decode_vs_f16: float | None
    prefill_vs_stock: float | None
    """Times as fast as the same setting with the stock kernel."""
    decode_vs_stock: float | None
    prefill_vs_no_tail: float | None
    """Times as fast as the same types without a window."""
    decode_vs_no_tail: float | None
    prefill_runs: tuple[float, ...]
    """Tokens per second of each repeat."""
    decode_runs: tuple[float, ...]

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SwitchRow:
    """A change from f16 to one setting."""

    label: str
    n_tokens: int
    switch_s: float | None
    """Median; None if it cannot be done without reading again."""
    reason: str = ""

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BenchFailure:
    """Something that was not measured."""

    label: str
    kernel: str
    reason: str


@dataclass
class _Runs:
    """Tokens per second of each repeat; None where it failed."""

    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)


_Key = tuple[str, str, int]
"""Label, kernel, depth."""


def benchmark(
    processes: Mapping[str, LabProcess], plan: BenchPlan, candidates: Sequence[Candidate]
) -> Iterator[Progress | SpeedRow | SwitchRow | BenchFailure]:
    """Time everything.

    Args:
        processes: by kernel: ``stock``, ``own`` or both.
        candidates: the reference first, if ratios to it are wanted.

    Yields:
        progress, then all rows.
    """
    return _Benchmark(processes, plan, candidates).run()


class _Benchmark:
    def __init__(
        self, processes: Mapping[str, LabProcess], plan: BenchPlan, candidates: Sequence[Candidate]
    ) -> None:
        self._processes = processes
        self._plan = plan
        self._candidates = candidates
        self._runs: dict[_Key, _Runs] = {}
        self._failures: dict[tuple[str, str], str] = {}
        self._seconds: dict[tuple[str, str], float] = {}

    def run(self) -> Iterator[Progress | SpeedRow | SwitchRow | BenchFailure]:
        jobs = [
            (c, kernel) for c in self._candidates for kernel in self._processes if self._depths(c, kernel)
        ]
        for candidate in self._candidates:
            if candidate.refused:
                self._failures |= {(candidate.setting.label, k): candidate.refused for k in self._processes}
        began, done, total = monotonic(), 0, len(jobs) * self._plan.repeats
        for repeat in range(self._plan.repeats):
            for candidate, kernel in jobs:
                what = f"{kernel} kernel, {repeat + 1} of {self._plan.repeats}"
                yield Progress(
                    candidate.setting.label, what, done, total, done / total, self._left(jobs, done)
                )
                self._time(candidate, kernel)
                done += 1
        yield Progress("", "", total, total, 1.0, monotonic() - began)
        yield from self._rows()
        if self._plan.switch_depth:
            yield from self._switches()
        for (label, kernel), reason in self._failures.items():
            yield BenchFailure(label, kernel, reason)

    def _depths(self, candidate: Candidate, kernel: str) -> list[int]:
        """Depths at which this setting is timed with this kernel."""
        pair, tail = candidate.setting.pair, candidate.setting.tail
        quantized = pair.k.quantized or pair.v.quantized
        if candidate.refused or (kernel == "stock" and tail):
            return []
        if kernel == "own":
            return list(self._plan.depths) if quantized else []
        native = pair.k.native or pair.v.native
        alone = len(self._processes) == 1
        return [d for d in self._plan.depths if alone or not native or d <= STOCK_NATIVE_DEPTH]

    def _left(self, jobs: Sequence[tuple[Candidate, str]], done: int) -> float:
        """Seconds that are left, from what each job took the last time; negative if not known."""
        if len(self._seconds) < min(2, len(jobs)):
            return -1.0
        typical = sum(self._seconds.values()) / len(self._seconds)
        total = 0.0
        for i in range(done, len(jobs) * self._plan.repeats):
            candidate, kernel = jobs[i % len(jobs)]
            total += self._seconds.get((candidate.setting.label, kernel), typical)
        return total

    def _time(self, candidate: Candidate, kernel: str) -> None:
        label = candidate.setting.label
        if (label, kernel) in self._failures:
            return
        process = self._processes[kernel]
        job = {
            "job": "speed",
            "setting": candidate.setting.data(),
            "depths": self._depths(candidate, kernel),
            "text": self._plan.text,
            "n_decode": self._plan.n_decode,
        }
        try:
            _ = process.introduction  # the model is loaded before the clock starts
            began = monotonic()
            timings = process.result(job)["timings"]
        except StretchError as error:
            self._failures[label, kernel] = error.message
            return
        self._seconds[label, kernel] = monotonic() - began
        for t in timings:
            runs = self._runs.setdefault((label, kernel, t["depth"]), _Runs())
            runs.prefill.append(t["depth"] / t["prefill_s"])
            runs.decode.append(t["n_decoded"] / t["decode_s"])

    def _rows(self) -> Iterator[SpeedRow]:
        reference = next((c.setting.label for c in self._candidates if c.setting.is_reference), "")
        for depth in self._plan.depths:
            for candidate in self._candidates:
                for kernel in self._processes:
                    setting = candidate.setting
                    runs = self._runs.get((setting.label, kernel, depth))
                    if runs is None:
                        continue
                    f16 = self._runs.get((reference, "stock", depth))
                    stock = self._runs.get((setting.label, "stock", depth)) if kernel == "own" else None
                    bare = self._runs.get((setting.pair.label, kernel, depth)) if setting.tail else None
                    yield SpeedRow(
                        label=setting.label,
                        type_k=setting.pair.k.name,
                        type_v=setting.pair.v.name,
                        tail=setting.tail,
                        bits_k=candidate.bits_k,
                        bits_v=candidate.bits_v,
                        bytes_per_token=candidate.bytes_per_token,
                        depth=depth,
                        kernel=kernel,
                        prefill_tps=median(runs.prefill),
                        decode_tps=median(runs.decode),
                        prefill_vs_f16=_ratio(runs.prefill, f16.prefill if f16 else None),
                        decode_vs_f16=_ratio(runs.decode, f16.decode if f16 else None),
                        prefill_vs_stock=_ratio(runs.prefill, stock.prefill if stock else None),
                        decode_vs_stock=_ratio(runs.decode, stock.decode if stock else None),
                        prefill_vs_no_tail=_ratio(runs.prefill, bare.prefill if bare else None),
                        decode_vs_no_tail=_ratio(runs.decode, bare.decode if bare else None),
                        prefill_runs=tuple(runs.prefill),
                        decode_runs=tuple(runs.decode),
                    )

    def _switches(self) -> Iterator[Progress | SwitchRow]:
        process = self._processes.get("own") or self._processes["stock"]
        wanted = [
            c for c in self._candidates if not c.refused and not c.setting.tail and not c.setting.is_reference
        ]
        depth = self._plan.switch_depth
        for i, candidate in enumerate(wanted):
            label = candidate.setting.label
            yield Progress(label, "switching", i, len(wanted), i / len(wanted), -1.0)
            job = {
                "job": "switch",
                "setting": candidate.setting.data(),
                "depth": depth,
                "text": self._plan.text,
            }
            try:
                seconds = [process.result(job)["seconds"] for _ in range(self._plan.repeats)]
            except StretchError as error:
                yield SwitchRow(label, depth, None, error.message)
                continue
            yield SwitchRow(label, depth, median(seconds))


def _ratio(runs: Sequence[float], other: Sequence[float] | None) -> float | None:
    """Median of the ratios of each repeat."""
    if not other or len(runs) != len(other):
        return None
    return median(a / b for a, b in zip(runs, other, strict=True))
