"""The last row: the keys that matter now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.style import Style
from textual.widget import Widget

from app.chat.keys import key_name, key_of
from app.chat.markdown.layout import MUTED
from app.chat.messages import CommandWanted


@dataclass(frozen=True, slots=True)
class Hint:
    """What a key does, and the slash command that does the same (or empty)."""

    label: str
    command: str = ""
    key: str = ""
    """Only where no command has it."""


class KeyLine(Widget):
    """As many hints as fit, the first ones first; a hint can be clicked."""

    DEFAULT_CSS = """
    KeyLine { width: 1fr; height: 1; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__(id="keys")
        self.auto_links = False
        self._hints: Sequence[Hint] = ()
        self.keys: Mapping[str, str] = {}

    def show(self, hints: Sequence[Hint]) -> None:
        """Show other hints."""
        if hints != self._hints:
            self._hints = hints
            self.refresh()

    def render(self) -> Content:
        width = self.content_size.width
        parts: list[Content] = []
        used = 0
        for hint in self._hints:
            name = key_name(hint.key or key_of(hint.command, self.keys))
            length = len(name) + 1 + len(hint.label) + (2 if parts else 0)
            if used + length > width:
                continue
            part = Content.assemble((name, ""), (f" {hint.label}", MUTED))
            if hint.command:
                part = part.stylize(Style.from_meta({"@click": f"ask({hint.command!r})"}))
            parts.append(part)
            used += length
        return Content("  ").join(parts)

    def action_ask(self, command: str) -> None:
        """Do what a hint says."""
        self.post_message(CommandWanted(command))
