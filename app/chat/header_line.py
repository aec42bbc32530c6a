"""The first row: the model, the cache, the context, what the engine does, how fast."""

from __future__ import annotations

from textual import events
from textual.content import Content
from textual.style import Style
from textual.widget import Widget

from app.chat.format import clip, count, rate, setting
from app.chat.markdown.layout import MUTED
from app.chat.messages import CommandWanted, Phase
from app.plain_text import one_line

WORDS: dict[Phase, str] = {
    "starting": "starting",
    "loading": "loading",
    "ready": "ready",
    "reading": "reading",
    "writing": "writing",
    "switching": "switching",
    "restarting": "restarting",
    "stopped": "no model",
}
_WIDEST = max(map(len, WORDS.values()))
_MODEL_WIDTH = 36
_RATE_WIDTH = 6 + len(" t/s")


class HeaderLine(Widget):
    """Every part keeps its width; what can be changed can be clicked."""

    DEFAULT_CSS = """
    HeaderLine { width: 1fr; height: 1; padding: 0 1; }
    HeaderLine { link-style: none; link-color: $text; link-style-hover: underline; }
    """

    def __init__(self) -> None:
        super().__init__(id="header")
        self._model = ""
        self._cache = ("", "", 0)
        self._n_ctx = 0
        self._phase: Phase = "starting"
        self._fraction = 0.0
        self._rate = 0.0

    def show_model(self, name: str) -> None:
        """The model that is loaded, or that will be."""
        self._model = one_line(name)
        self.refresh()

    def show_cache(self, type_k: str, type_v: str, tail: int, n_ctx: int) -> None:
        """The setting of the cache."""
        self._cache, self._n_ctx = (type_k, type_v, tail), n_ctx
        self.refresh()

    def show_phase(self, phase: Phase, fraction: float = 0.0) -> None:
        """What the engine does."""
        self._phase, self._fraction = phase, fraction
        self.refresh()

    def show_rate(self, tokens_per_second: float) -> None:
        """The speed of the reply that is written, or of the last one."""
        self._rate = tokens_per_second
        self.refresh()

    # ---------------------------------------------------------------- drawing

    def render(self) -> Content:
        width = self.content_size.width
        right = self._state()
        for left in (self._left(full=True, name=True), self._left(full=True, name=False)):
            if left.cell_length + right.cell_length + 2 <= width:
                break
        else:
            left = self._left(full=False, name=False).truncate(max(0, width - right.cell_length - 1))
        gap = max(1, width - left.cell_length - right.cell_length)
        return Content.assemble(left, " " * gap, right).truncate(width)

    def _left(self, *, full: bool, name: bool) -> Content:
        parts: list[Content] = []
        if name:
            parts.append(Content.styled("Stretch", "bold $text-primary"))
        model = clip(self._model or "no model", _MODEL_WIDTH if full else 18)
        parts.append(self._button(Content.styled(model, "bold"), "/model"))
        type_k, type_v, tail = self._cache
        if type_k:
            cache = Content.assemble(("K ", MUTED), type_k, ("  V ", MUTED), type_v)
            if not full:
                cache = Content(setting(type_k, type_v, tail))
            elif tail:
                cache = Content.assemble(cache, ("  tail ", MUTED), count(tail))
            parts.append(self._button(cache, "/kv"))
        if self._n_ctx:
            label = "ctx " if full else ""
            parts.append(self._button(Content.assemble((label, MUTED), count(self._n_ctx)), "/ctx"))
        return Content("   " if full else "  ").join(parts)

    @staticmethod
    def _button(content: Content, command: str) -> Content:
        arrow = Content.styled(" ▾", MUTED)
        return Content.assemble(content, arrow).stylize(Style.from_meta({"@click": f"ask({command!r})"}))

    def _state(self) -> Content:
        word = WORDS[self._phase]
        if self._phase == "loading" and self._fraction:
            word = f"{word} {self._fraction:.0%}"
        style = {"stopped": "$text-error", "ready": "$text-primary", "writing": "$text-primary"}.get(
            self._phase, MUTED
        )
        speed = f"{rate(self._rate)} t/s" if self._rate else ""
        return Content.assemble(
            ("● ", style), (word.ljust(_WIDEST + 1), MUTED), (speed.rjust(_RATE_WIDTH), "")
        )

    # ---------------------------------------------------------------- the mouse

    def action_ask(self, command: str) -> None:
        """Do what the part that was clicked stands for."""
        self.post_message(CommandWanted(command))

    def on_resize(self, event: events.Resize) -> None:
        self.refresh()
