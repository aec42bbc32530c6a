"""``/measure``: what would this conversation lose at the other cache settings?

A child of its own loads the model once more (the file is mapped, so the weights are shared), reads the
conversation's own tokens with f16 and with the others side by side, and compares the answers: the same
measurement as ``stretch eval``. It has a low priority, and the engine and the page know nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.chat import messages as news
from app.chat.losses import NOTHING, Key, Loss, Losses
from app.engine import protocol
from quantize.errors import EngineDiedError, OutOfMemoryError, StretchError, UsageError

if TYPE_CHECKING:
    from app.chat.session import Session
    from quantize.lab.candidate import Candidate
    from quantize.lab.opening import Opening

MIN_TOKENS = 48
MAX_TOKENS = 16_384
"""Of a longer conversation the newest ones are measured."""
NICENESS = 10
GROUP = 3
"""Settings that are read side by side: few, so that results come early."""
ROOM = 0.8
"""Share of the available memory that the measurement may take."""


class Stopped(Exception):
    """The person does not want to know any more."""


class Measuring:
    """The measurement of the conversation on the page."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._task: asyncio.Task[None] | None = None
        self._stop = threading.Event()
        self.pid = 0
        """The child that measures, 0 while there is none."""
        self.losses: Losses = NOTHING

    def start(self) -> None:
        """Begin. Progress and results come as ``LossesChanged``.

        Raises:
            UsageError: if there is nothing to measure, or it is being measured.
        """
        session = self._session
        if self._task is not None:
            raise UsageError("This conversation is being measured.", "Esc stops it.")
        if session.loaded is None or session.status is None:
            raise UsageError("There is no model to measure with yet.", "Wait until it is loaded.")
        if session.busy:
            raise UsageError("A reply is being written.", "Measure when it is done.")
        if not session.page.messages:
            raise UsageError("There is no conversation yet.", "Say something first, then /measure.")
        keys: list[Key] = [
            (row.type_k, row.type_v, row.tail) for row in session.status.rows if not row.refused
        ]
        now = (session.status.type_k, session.status.type_v, session.status.tail)
        wanted = [key for key in dict.fromkeys((*keys, now)) if key != ("f16", "f16", 0)]
        self._stop.clear()
        self._say(replace(NOTHING, fraction=0.0))
        path = Path(session.loaded.model.path)
        self._task = asyncio.get_running_loop().create_task(self._run(path, wanted))

    def of_model(self) -> None:
        """Measure the model itself again, in the engine, as soon as it has nothing else to do.

        Raises:
            UsageError: if there is no model yet.
        """
        link = self._session.life.link
        if self._session.loaded is None or not link.send(protocol.MeasureLoss(link.next_id())):
            raise UsageError("There is no model to measure with yet.", "Wait until it is loaded.")
        self._session.notify("What each setting costs on this model is measured while you do nothing.")

    def stop(self) -> bool:
        """End it. False if nothing was measured."""
        if self._task is None:
            return False
        self._stop.set()
        self.send(signal.SIGKILL)
        return True

    def forget(self) -> None:
        """Another conversation or another model follows."""
        self.stop()
        self._say(NOTHING)

    # ---------------------------------------------------------------- on the event loop

    async def _run(self, path: Path, wanted: list[Key]) -> None:
        session = self._session
        loop = asyncio.get_running_loop()
        conversation = session.page.id
        mine: Losses = self.losses

        def tell(losses: Losses) -> None:
            def here() -> None:
                if not self._stop.is_set() and session.page.id == conversation:
                    self._say(losses)

            with contextlib.suppress(RuntimeError):  # the program ends
                loop.call_soon_threadsafe(here)

        try:
            turns = session.page.prompt(0, session.settings.system_prompt)
            command = protocol.CountTokens(session.life.link.next_id(), turns=turns, want_tokens=True)
            tokens = (await session.life.link.ask(command, protocol.TokenCount)).tokens
            if len(tokens) < MIN_TOKENS:
                raise UsageError(
                    f"This conversation has {len(tokens)} tokens, too few to measure.", "Talk on first."
                )
            mine = replace(mine, n_tokens=min(len(tokens), MAX_TOKENS))
            await asyncio.to_thread(self._measure, path, wanted, list(tokens[-MAX_TOKENS:]), tell)
        except Stopped:
            session.notify("The measurement was stopped.")
        except StretchError as error:
            if self._stop.is_set():
                session.notify("The measurement was stopped.")
            else:
                session.complain(error)
        finally:
            self._task = None
            self.pid = 0
            if self.losses.running:
                known = bool(self.losses.by_setting)
                self._say(replace(self.losses, fraction=-1.0, eta_s=-1.0) if known else NOTHING)

    def _say(self, losses: Losses) -> None:
        self.losses = losses
        self._session.post(news.LossesChanged(losses))

    def send(self, signal_number: int) -> None:
        """Send the child a signal, if there is one."""
        if self.pid:
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal_number)

    # ---------------------------------------------------------------- in a thread

    def _measure(
        self, path: Path, wanted: list[Key], tokens: list[int], tell: Callable[[Losses], None]
    ) -> None:
        """Read the tokens with every setting; the results come in groups."""
        from app import paths
        from quantize.lab.candidate import in_groups
        from quantize.lab.process import LabProcess

        opening, reference, others, room = prepare(path, wanted, len(tokens))
        groups = in_groups(others, room - reference.context_bytes, GROUP)
        total = sum(len(tokens) * (1 + len(group)) for group in groups)
        found: dict[Key, Loss] = {}
        done, began = 0, time.monotonic()
        with LabProcess(opening, paths.log_dir() / "lab.log") as process:
            _ = process.introduction
            self.pid = process.pid
            if self._stop.is_set():
                raise Stopped
            with contextlib.suppress(OSError, AttributeError):
                os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
            for group in groups:
                job = {
                    "job": "divergence",
                    "settings": [c.setting.data() for c in group],
                    "tokens": tokens,
                    "n_ctx": len(tokens),
                    "n_prompt": 0,
                }
                labels = {c.setting.label: c.setting for c in group}
                for event in self._events(process.run(job)):
                    at = done + (event["n"] if event["event"] == "progress" else len(tokens)) * (
                        1 + len(group)
                    )
                    if event["event"] != "progress":
                        setting = labels.get(event["label"])
                        if setting is not None and not event["failed"]:
                            key = (setting.pair.k.name, setting.pair.v.name, setting.tail)
                            found[key] = Loss(event["kld_mean"], event["top1"])
                    fraction = min(at / total, 1.0)
                    elapsed = time.monotonic() - began
                    eta = elapsed * (1 - fraction) / fraction if fraction > 0.02 else -1.0
                    tell(Losses(dict(found), len(tokens), time.time(), fraction, eta))
                done += len(tokens) * (1 + len(group))
        if not found:
            raise EngineDiedError("No setting could be measured.", "The log says why.")
        tell(Losses(found, len(tokens), time.time()))

    def _events(self, events: Any) -> Any:
        for event in events:
            if self._stop.is_set():
                raise Stopped
            yield event


def prepare(path: Path, wanted: list[Key], n_tokens: int) -> tuple[Opening, Candidate, list[Candidate], int]:
    """What the child opens, the reference, the settings that fit beside it, and the room for all.

    Raises:
        OutOfMemoryError: if not even f16 and one setting fit beside the engine.
    """
    from app.engine.threads import default_threads
    from app.paths import calibrations_dir
    from models.candidates import candidates
    from models.memory import memory
    from models.plan import Planner
    from models.splits import read_model
    from quantize.cache_types import CachePair, cache_type
    from quantize.lab.opening import Opening
    from quantize.lab.setting import REFERENCE, Setting

    # No second copy of the weights in a faster layout: the engine beside has one already.
    planner = Planner(read_model(path), repack=False)
    settings = [Setting(CachePair(cache_type(k), cache_type(v)), tail) for k, v, tail in wanted]
    reference, *others = candidates(planner, settings, n_tokens)
    room = int(ROOM * memory().available) - planner.plan(REFERENCE.pair, 256).overhead
    fitting = [c for c in others if not c.refused and c.context_bytes + reference.context_bytes <= room]
    if not fitting:
        raise OutOfMemoryError(
            "There is no memory to measure this conversation beside the engine.",
            "Close other programs, or choose a smaller cache first.",
        )
    opening = Opening(
        path=str(path),
        geometry=planner.shape.geometry(),
        mla=planner.shape.mla,
        n_threads=default_threads(),
        repack=False,
        calibrations=str(calibrations_dir()),
    )
    return opening, reference, fitting, room
