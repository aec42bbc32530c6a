"""The life of the engine: start, load, die, come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from app.chat.cache_control import CacheState
from app.chat.engine_link import EngineLink
from app.engine import protocol
from app.store.settings import Settings
from quantize import errors
from quantize.errors import EngineError, StretchError

State = Literal["starting", "loading", "restarting", "up", "stopped"]

MOST_DEATHS = 6
"""Deaths in a row, without a load that succeeded in between, after which nothing is tried any more."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What to load: kept so that the same can be loaded again after a death."""

    name: str
    cache: CacheState
    n_threads: int = 0
    repack: bool = True
    n_gpu_layers: int = 0
    adapt_threads: bool = True
    measure_loss: bool = True

    @classmethod
    def of(cls, name: str, settings: Settings) -> LoadPlan:
        """The plan that the settings ask for."""
        cache = CacheState(settings.type_k, settings.type_v, settings.n_ctx, settings.tail)
        s = settings
        return cls(name, cache, s.n_threads, s.repack, s.n_gpu_layers, s.adapt_threads, s.measure_loss)

    def command(self, id: int, path: Path) -> protocol.Load:
        """The command to the engine."""
        c = self.cache
        return protocol.Load(
            id,
            str(path),
            c.n_ctx,
            c.type_k,
            c.type_v,
            c.tail,
            self.n_threads,
            self.repack,
            self.n_gpu_layers,
            self.adapt_threads,
            self.measure_loss,
            accept_loss=True,  # it was chosen once, and a line in the conversation says what it does
        )


class EngineLife:
    """Keeps an engine with a model alive.

    Args:
        on_event: events that are not about starting and loading.
        on_state: called whenever ``state`` or ``fraction`` changed.
        on_trouble: called with an error that the user should see.
    """

    def __init__(
        self,
        log_path: Path,
        on_event: Callable[[protocol.Event], None],
        on_state: Callable[[], None],
        on_trouble: Callable[[StretchError], None],
    ) -> None:
        self.link = EngineLink(self._handle, log_path)
        self.state: State = "stopped"
        self.fraction = 0.0
        self.loaded: protocol.Loaded | None = None
        self.plan: LoadPlan | None = None
        self._on_event, self._on_state, self._on_trouble = on_event, on_state, on_trouble
        self._load_id = 0
        self._deaths = 0
        self._resolving: asyncio.Task[None] | None = None

    def load(self, plan: LoadPlan) -> None:
        """Load a model, starting the process if there is none. Returns at once."""
        self.plan = plan
        self._deaths = 0
        self._begin("loading" if self.state == "up" else "starting")

    def restart(self, plan: LoadPlan) -> None:
        """Start a new process for ``plan``, ending by force what there is: it may not answer any more."""
        self.link.kill()
        self.loaded = None
        self.state = "stopped"
        self.load(plan)

    def close(self, timeout: float = 3.0) -> None:
        """End the process, by force after ``timeout`` seconds."""
        if self._resolving is not None:
            self._resolving.cancel()
        self.link.close(timeout)

    def keep(self, cache: CacheState) -> None:
        """Remember the present cache for a restart."""
        if self.plan is not None:
            self.plan = replace(self.plan, cache=cache)

    def set_threads(self, n_threads: int, adapt: bool) -> None:
        """Compute with other threads, at once and after a restart."""
        plan = self.plan
        if plan is None or (plan.n_threads, plan.adapt_threads) == (n_threads, adapt):
            return
        self.plan = replace(plan, n_threads=n_threads, adapt_threads=adapt)
        if self.loaded is not None:
            self.link.send(protocol.SetThreads(self.link.next_id(), n_threads, adapt))

    # ---------------------------------------------------------------- inside

    def _become(self, state: State, fraction: float = 0.0) -> None:
        self.state, self.fraction = state, fraction
        self._on_state()

    def _begin(self, state: State) -> None:
        self.loaded = None
        self._become(state)
        try:
            self.link.start()
        except EngineError as error:
            self._become("stopped")
            self._on_trouble(error)
            return
        if self._resolving is not None:
            self._resolving.cancel()
        self._resolving = asyncio.create_task(self._send_load())

    async def _send_load(self) -> None:
        from app import paths
        from models.resolve import resolve

        plan = self.plan
        assert plan is not None
        try:
            path = await asyncio.to_thread(resolve, plan.name, paths.models_dir())
        except StretchError as error:
            self._become("stopped")
            self._on_trouble(error)
            return
        self._load_id = self.link.next_id()
        self.link.send(plan.command(self._load_id, path))

    def _handle(self, event: protocol.Event) -> None:
        match event:
            case protocol.Hello():
                if self.state in ("starting", "restarting"):
                    self._become("loading")
            case protocol.LoadProgress():
                if event.id == self._load_id and self.state == "loading":
                    self._become("loading", event.fraction)
            case protocol.Loaded():
                if event.id == self._load_id:
                    self._deaths = 0
                    self.loaded = event
                    self.state = "up"
                    self._on_event(event)
            case protocol.Failed() if event.id == self._load_id:
                self._become("stopped")
                self._on_trouble(errors.reported(event.kind, event.message, event.hint))
            case protocol.Died():
                self._died(event)
            case _:
                self._on_event(event)

    def _died(self, died: protocol.Died) -> None:
        self.loaded = None
        self._deaths += 1
        self.state = "stopped" if self._deaths >= MOST_DEATHS else "restarting"
        self._on_event(died)
        if self.state == "stopped":
            self._on_state()
            self._on_trouble(
                EngineError(
                    "The engine ended several times in a row and was not started again.", died.sentence
                )
            )
        else:
            self._begin("restarting")
