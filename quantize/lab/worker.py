"""The child process of the laboratory: loads one model and does one job after the other.

It reads one line of JSON per job from standard input and writes one line per event to standard output.
The first line is an ``Opening``. Every job ends with ``end`` or ``failed``. It ends when its input does,
or when nobody reads its output any more.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

from quantize import child
from quantize.child import Emit
from quantize.errors import StretchError

PROGRESS_SECONDS = 0.1


def main() -> None:
    """Run until the input ends. Descriptor 2 is the log."""
    emit = child.open_events()
    from quantize.llama import send_log_to

    send_log_to(child.log_problems)
    jobs = (json.loads(line) for line in sys.stdin)
    try:
        _serve(jobs, emit)
    except StretchError as error:
        emit(child.failed(error))
    os._exit(0)


def _serve(jobs: Iterator[dict[str, Any]], emit: Emit) -> None:
    from quantize.lab.opening import opening_of
    from quantize.lab.subject import Workbench

    opening = next(jobs, None)
    if opening is None:
        return
    with Workbench(opening_of(opening)) as bench:
        worker = _Worker(bench, emit)
        emit(worker.introduction())
        for job in jobs:
            try:
                worker.do(job)
                emit({"event": "end"})
            except StretchError as error:
                emit(child.failed(error))


class _Worker:
    """Does the jobs on one loaded model."""

    def __init__(self, bench: Any, emit: Emit) -> None:
        self._bench = bench
        self._emit = emit
        self._reported = 0.0
        self._switches: tuple[str, Any] = ("", None)

    def introduction(self) -> dict[str, Any]:
        """What the parent needs to know of the model."""
        import llama_cpp.llama_cpp as L

        bench, model = self._bench, self._bench.model

        def text(token: int) -> str:
            return model.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

        return {
            "event": "ready",
            "template": model.metadata("tokenizer.chat_template") or "",
            "bos": text(L.llama_vocab_bos(model.vocab)),
            "eos": text(L.llama_vocab_eos(model.vocab)),
            "thinks": len(model.tokenize("<think>")) == 1,
            "n_vocab": model.n_vocab,
            "n_ctx_train": int(L.llama_model_n_ctx_train(model.handle)),
            "native": bench.native.ok,
            "native_reason": bench.native.reason,
            "kernel": bench.attention.kernel,
            "kernel_reason": bench.attention.reason,
            "isa": bench.attention.isa,
        }

    def do(self, job: dict[str, Any]) -> None:
        """One job.

        Raises:
            StretchError: if it cannot be done.
        """
        match job["job"]:
            case "count":
                self._emit({"event": "count", "n": len(self._tokens(job["text"]))})
            case "divergence":
                self._divergence(job)
            case "floor":
                self._floor(job)
            case "recall":
                self._recall(job)
            case "speed":
                self._speed(job)
            case "calibrate":
                self._calibrate(job)
            case "switch":
                self._switch(job)

    def _tokens(self, text: str, n: int = 0) -> list[int]:
        """Tokens of a text, with the BOS token where the model wants one; the first ``n`` of them, the
        text again and again if it is too short (0: as they are)."""
        model = self._bench.model
        tokens: list[int] = model.tokenize(text, add_special=True, parse_special=False)
        while 0 < len(tokens) < n:
            tokens += tokens
        return tokens[:n] if n else tokens

    def _progress(self, n: int) -> None:
        if (now := monotonic()) - self._reported > PROGRESS_SECONDS:
            self._reported = now
            self._emit({"event": "progress", "n": n})

    def _divergence(self, job: dict[str, Any]) -> None:
        from quantize.lab.batch import batch_size
        from quantize.lab.lockstep import compare
        from quantize.lab.setting import REFERENCE, setting_of

        tokens = job.get("tokens") or self._tokens(job["text"])[: job["n_ctx"]]
        batch = batch_size(self._bench.model.n_vocab)
        sizes = {"n_ctx": len(tokens), "n_batch": batch, "n_outputs": batch}
        with ExitStack() as stack:
            reference = stack.enter_context(REFERENCE.open(self._bench, **sizes))
            opened = []
            for data in job["settings"]:
                setting = setting_of(data)
                try:
                    opened.append((setting.label, stack.enter_context(setting.open(self._bench, **sizes))))
                except StretchError as error:
                    self._emit({"event": "result", "label": setting.label, "failed": error.message})
            own, others = compare(
                reference,
                [subject for _, subject in opened],
                tokens,
                n_prompt=job["n_prompt"],
                batch=batch,
                on_progress=self._progress,
            )
            labels = [REFERENCE.label, *(label for label, _ in opened)]
            for label, compared in zip(labels, [own, *others], strict=True):
                figures = asdict(compared.summary) if compared.summary else {}
                footprint = asdict(compared.footprint) if compared.footprint else None
                result = {"failed": compared.failed, "kernel": compared.kernel, "footprint": footprint}
                self._emit({"event": "result", "label": label, **result, **figures})

    def _floor(self, job: dict[str, Any]) -> None:
        from quantize.lab.batch import batch_size
        from quantize.lab.floor import measure_floor

        tokens = self._tokens(job["text"])[: job["n_tokens"]]
        batch = batch_size(self._bench.model.n_vocab)
        summary = measure_floor(self._bench, tokens, batch=batch, on_progress=self._progress)
        self._emit({"event": "result", **asdict(summary)})

    def _recall(self, job: dict[str, Any]) -> None:
        from quantize.lab.asking import ask_all
        from quantize.lab.recall import recall_task_of
        from quantize.lab.setting import setting_of

        right = ask_all(
            self._bench,
            setting_of(job["setting"]),
            recall_task_of(job["task"]),
            job["text"],
            on_progress=self._progress,
        )
        self._emit({"event": "result", "answers": "".join("1" if r else "0" for r in right)})

    def _speed(self, job: dict[str, Any]) -> None:
        from quantize.lab.setting import setting_of
        from quantize.lab.speed import measure_speed

        timings = measure_speed(
            self._bench,
            setting_of(job["setting"]),
            job["depths"],
            self._tokens(job["text"], max(job["depths"]) + job["n_decode"]),
            n_decode=job["n_decode"],
            on_progress=self._progress,
        )
        self._emit({"event": "result", "timings": [asdict(t) for t in timings]})

    def _calibrate(self, job: dict[str, Any]) -> None:
        from quantize.errors import EngineError
        from quantize.park.calibrate import Calibration
        from quantize.park.facts import facts_of, profile_path

        directory = Path(job["directory"])
        try:
            facts = facts_of(self._bench.model, self._bench.geometry, directory)
            path = profile_path(directory, facts.fingerprint)
            tokens = self._tokens(job["text"])
            calibration = Calibration(self._bench.model, facts, tokens, path.with_suffix(".notes"))
            for progress in calibration.run():
                self._emit({"event": "progress", "what": progress.what, "fraction": progress.fraction})
            profile = calibration.profile
            assert profile is not None
            profile.save(path)
        except OSError as error:
            raise EngineError(f"The calibration cannot be kept: {error.strerror or error}.") from error
        points = {k: [[p.step, p.kld, p.ratio] for p in v] for k, v in profile.points.items()}
        self._emit(
            {
                "event": "result",
                "path": str(path),
                "n_bytes": path.stat().st_size,
                "n_tokens": profile.n_tokens,
                "floor": profile.floor,
                "points": points,
            }
        )

    def _switch(self, job: dict[str, Any]) -> None:
        from quantize.lab.setting import setting_of
        from quantize.lab.switching import SwitchTimer

        key = f"{job['depth']} {hash(job['text'])}"
        if self._switches[0] != key:
            self._switches = (key, SwitchTimer(self._bench, self._tokens(job["text"], job["depth"])))
        self._emit({"event": "result", "seconds": self._switches[1].switch(setting_of(job["setting"]))})


if __name__ == "__main__":
    main()
