"""The panel folded into one line, for narrow terminals."""

from __future__ import annotations

from collections.abc import Sequence

from app.chat.format import count, percent, setting, size_pair
from app.chat.losses import NOTHING, Losses, kld_text
from app.chat.messages import Phase
from app.chat.panel.bars import Line, Piece
from app.chat.panel.context_section import fill_style
from app.chat.panel.lines import Lines
from app.chat.panel.stretch_view import same_setting
from app.engine.protocol import CacheChanged, Loaded, Status


class PanelLine(Lines):
    """``RAM 7.9/15.4 GiB · ctx 10,240/16,384 (62%) · q8_0/q4_0 · could reach 113,900``.

    What does not fit is left out from the right; the context stays the longest.
    """

    DEFAULT_CSS = """
    PanelLine { height: 1; width: 1fr; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._status: Status | None = None
        self._phase: Phase = "starting"
        self._fraction = 0.0
        self._losses: Losses = NOTHING

    def show_status(self, status: Status) -> None:
        """Fresh figures."""
        self._status = status
        self.redraw()

    def show_loaded(self, loaded: Loaded) -> None:
        """A model is ready; its figures follow."""
        self._status = None
        self.redraw()

    def show_switch(self, changed: CacheChanged) -> None:
        """The cache has changed; the figures follow with the next status."""

    def show_losses(self, losses: Losses) -> None:
        """How far a measurement of the conversation is, or what it found for the cache in use."""
        self._losses = losses
        self.redraw()

    def show_phase(self, phase: Phase, fraction: float = 0.0) -> None:
        """What the engine does, for the time before there are figures."""
        self._phase, self._fraction = phase, fraction
        self.redraw()

    def build(self, width: int) -> Sequence[Line]:
        parts = self._parts(self._status) if self._status is not None else [self._waiting()]
        dot = Piece(f" {self.glyphs.dot} ", "faint")
        line: list[Piece] = []
        used = 0
        for part in parts:
            more = ([dot] if line else []) + part
            length = sum(len(p.text) for p in more)
            if used + length > width:
                break
            line += more
            used += length
        return [tuple(line)]

    def _waiting(self) -> list[Piece]:
        words: dict[Phase, str] = {
            "loading": f"loading the model {self._fraction:>4.0%}",
            "stopped": "no model is loaded",
            "restarting": "the engine is coming back",
        }
        return [Piece(words.get(self._phase, "the engine is starting"), "muted")]

    def _parts(self, status: Status) -> list[list[Piece]]:
        memory = status.memory
        share = memory.available / memory.total if memory.total else 1.0
        ram = size_pair(memory.total - memory.available, memory.total)
        total = count(status.n_ctx)
        filled = f"({percent(status.n_used, status.n_ctx)})"
        used = f"{count(status.n_used):>{len(total)}}/{total} {filled:<5}"
        row = next(
            (r for r in status.rows if same_setting(r, status.type_k, status.type_v, status.tail)), None
        )
        parts = [
            [
                Piece("RAM ", "muted"),
                Piece(ram, "error" if share < 0.04 else "warning" if share < 0.10 else "value"),
            ],
            [Piece("ctx ", "muted"), Piece(used, fill_style(status.n_used, status.n_ctx, "value"))],
            [Piece(setting(status.type_k, status.type_v, status.tail), "current")],
        ]
        loss = self._losses.of(status.type_k, status.type_v, status.tail)
        if self._losses.running:
            parts.append([Piece("measuring ", "muted"), Piece(f"{self._losses.fraction:4.0%}", "current")])
        elif loss is not None:
            parts.append([Piece("loss ", "muted"), Piece(kld_text(loss.kld), "value")])
        if row is not None:
            parts.append([Piece("could reach ", "muted"), Piece(count(row.max_ctx), "value")])
        return parts
