"""The instrument beside the chat: memory, context, reach and speed."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual import events
from textual.app import ComposeResult
from textual.containers import VerticalScroll

from app.chat.losses import Losses
from app.chat.messages import Phase
from app.chat.panel.context_section import ContextSection
from app.chat.panel.lines import Density, Lines
from app.chat.panel.loss_section import LossSection
from app.chat.panel.memory_section import MemorySection
from app.chat.panel.speed_section import SpeedSection
from app.chat.panel.stretch_table import StretchTable
from app.engine.protocol import CacheChanged, CachePreview, Loaded, Status

_FORMS = (
    (Density.ROOMY, True, 24),
    (Density.AIRY, True, 20),
    (Density.ROOMY, False, 23),
    (Density.COMPACT, False, 17),
)
"""Forms of the panel, the best first: whether every row of the table has a bar of its own below it,
and the lines that the form takes without the rows (air between the sections included)."""


def form_for(height: int, n_rows: int) -> tuple[Density, bool]:
    """The best form that fits into ``height`` lines with ``n_rows`` rows in the table."""
    for density, long_bars, fixed in _FORMS:
        if height >= fixed + n_rows * (2 if long_bars else 1):
            return density, long_bars
    return Density.TIGHT, False


class MemoryPanel(VerticalScroll, can_focus=False):
    """Shows what it is told and asks for nothing; wishes come from its table of settings.

    Args:
        clock: Seconds that never go back; the history is drawn over it.
    """

    DEFAULT_CSS = """
    MemoryPanel {
        width: 50;
        height: 1fr;
        padding: 0 1;
        border-left: solid $foreground 15%;
        scrollbar-size-vertical: 1;
        &:ansi { border-left: solid ansi_bright_black; }
        & > Lines { margin-bottom: 1; }
        & > SpeedSection { margin-bottom: 0; }
        &.-compact > Lines { margin-bottom: 0; }
    }
    """

    def __init__(
        self,
        *,
        id: str | None = None,
        classes: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._clock = clock
        self._model_path = ""
        self._n_ctx_train = 0
        self.memory = MemorySection()
        self.context = ContextSection()
        self.stretch = StretchTable()
        self.loss = LossSection()
        self.speed = SpeedSection()

    def compose(self) -> ComposeResult:
        yield self.memory
        yield self.context
        yield self.stretch
        yield self.loss
        yield self.speed

    # ---------------------------------------------------------------- news

    def show_status(self, status: Status) -> None:
        """Fresh figures. Cells that stay the same are not painted again."""
        self.memory.show_status(status, self._clock())
        self.context.show(status.n_used, status.n_ctx, self._n_ctx_train)
        self.stretch.show_status(status, self._n_ctx_train)
        self.loss.redraw()  # it says how long ago
        self._arrange(self.size.height)
        fewer = status.n_threads if status.n_threads < status.most_threads else 0
        threads = fewer or (status.n_threads if status.threads_why else 0)
        self.speed.show(status.prefill_tps, status.generate_tps, status.first_token_s, threads)

    def show_loaded(self, loaded: Loaded) -> None:
        """A model is ready: the figures of another one are forgotten."""
        self._n_ctx_train = loaded.model.n_ctx_train
        if loaded.model.path != self._model_path:
            self._model_path = loaded.model.path
            self.memory.clear()
            self.stretch.clear()
            self.speed.show(0.0, 0.0, 0.0)
        self.context.show(0, loaded.n_ctx, self._n_ctx_train)

    def show_preview(self, preview: CachePreview) -> None:
        """What the switch under the cursor would need and gain."""
        self.stretch.show_preview(preview)

    def show_switch(self, changed: CacheChanged) -> None:
        """The cache has changed; the figures follow with the next status."""
        self.stretch.show_outcome(changed.sentence)

    def show_losses(self, losses: Losses) -> None:
        """What was measured on the conversation, or how far that is."""
        self.loss.show(losses)
        self.stretch.show_losses(losses)
        self._arrange(self.size.height)

    def show_phase(self, phase: Phase, fraction: float = 0.0) -> None:
        """What the engine does: a word under the table while figures are stale or missing."""
        notes: dict[Phase, str] = {
            "starting": "The engine is starting.",
            "loading": f"The model is being loaded: {fraction:.0%}",
            "switching": "The cache is changing ...",
            "restarting": "The engine is coming back; the figures are from before.",
            "stopped": "No model is loaded.",
        }
        self.stretch.show_note(notes.get(phase, ""))

    def focus_table(self) -> None:
        """Let the keyboard move over the cache settings."""
        self.stretch.focus()

    # ---------------------------------------------------------------- layout

    def on_resize(self, event: events.Resize) -> None:
        self._arrange(event.size.height)

    def _arrange(self, height: int) -> None:
        room = height - self.loss.height(max(20, self.size.width - 2))
        density, long_bars = form_for(room, self.stretch.n_rows)
        self.set_class(density < Density.AIRY, "-compact")
        changed: list[Lines] = []
        if self.stretch.long_bars != long_bars:
            self.stretch.long_bars = long_bars
            changed.append(self.stretch)
        for section in (self.memory, self.context, self.stretch, self.loss, self.speed):
            if section.density != density:
                section.density = density
                changed.append(section)
        for each in changed:
            each.refresh(layout=True)
            each.redraw()
