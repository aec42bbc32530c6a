"""What all screens over the chat have in common: a box, its title, its keys, and Esc to leave."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget

from app.chat.screens.key_hints import KeyHints

_SHEET = str(Path(__file__).with_name("dialog.tcss"))

_BACK = Binding("escape", "back", "back")


class Dialog(ModalScreen[None]):
    """A box in the middle of the screen; in a small terminal it takes all of it.

    Subclasses give ``HEADING`` and ``body``. What the person decides leaves as a wish for the
    application (``wish``), so a screen never changes anything itself.
    """

    CSS_PATH = [_SHEET]  # noqa: RUF012  # Textual's own annotation makes it a class variable

    HEADING: ClassVar[str] = ""
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012  # as CSS_PATH

    BINDINGS: ClassVar[list[BindingType]] = [_BACK]

    @staticmethod
    def sheets(name: str) -> list[str | PurePath]:
        """The style sheet ``name`` beside this file on top of the one of all dialogs."""
        return [_SHEET, str(Path(__file__).with_name(name))]

    def compose(self) -> ComposeResult:
        box = Container(*self.body(), KeyHints(self.hints()), id="box")
        box.border_title = self.HEADING
        yield box

    def body(self) -> Iterable[Widget]:
        """The widgets inside the box."""
        return ()

    def hints(self) -> list[Binding]:
        """The bindings to show, Esc last."""
        own = [b for b in type(self).BINDINGS if isinstance(b, Binding) and b.show]
        return [b for b in own if b.action != "back"] + [_BACK]

    def wish(self, message: Message) -> None:
        """Hand a wish to the application and close."""
        self.app.post_message(message)
        self.dismiss()

    def action_back(self) -> None:
        """Close without a change."""
        self.dismiss()
