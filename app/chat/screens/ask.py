"""Small questions: a text, or one of a few choices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Label

from app.chat.format import fit
from app.chat.panel.bars import Line, Piece
from app.chat.screens.dialog import Dialog
from app.chat.screens.key_hints import KeyHints
from app.chat.screens.row_list import Row, RowList
from app.plain_text import one_line


class Question(ModalScreen[str | None]):
    """Asks and answers with a text, or with None after Esc."""

    CSS_PATH = Dialog.sheets("ask.tcss")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "back")]

    def __init__(self, heading: str) -> None:
        super().__init__()
        self._heading = heading

    def compose(self) -> ComposeResult:
        own = [b for b in type(self).BINDINGS if isinstance(b, Binding)]
        back = [b for b in Question.BINDINGS if isinstance(b, Binding)]
        yield Label(one_line(self._heading, 200), id="heading", markup=False)
        yield Container(*self.body(), KeyHints(own + back), id="box")

    def body(self) -> Iterable[Widget]:
        """The widgets inside the box."""
        return ()

    def action_back(self) -> None:
        """Leave without an answer."""
        self.dismiss(None)


class AskText(Question):
    """Asks for a line of text.

    Args:
        check: what is wrong with a text, in one sentence; empty if nothing is.
    """

    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "answer", "ok")]

    def __init__(self, heading: str, value: str = "", check: Callable[[str], str] = lambda text: "") -> None:
        super().__init__(heading)
        self._value = value
        self._input = Input(select_on_focus=True)
        self._problem = Label("", id="problem", markup=False)
        self._check = check

    def body(self) -> Iterable[Widget]:
        yield self._input
        yield self._problem

    def on_mount(self) -> None:
        self._input.value = self._value
        self._input.action_select_all()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        problem = self._check(event.value)
        self._input.set_class(bool(problem), "-invalid")
        self._problem.update(one_line(problem, 300))

    @on(Input.Submitted)
    def action_answer(self) -> None:
        """Answer with what is typed, if it suits."""
        if self._check(self._input.value):
            self.app.bell()
        else:
            self.dismiss(self._input.value)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers of ``Choose``."""

    key: str
    """What is answered."""
    label: str
    note: str = ""
    """What it costs or gains."""


class Choose(Question):
    """Asks for one of a few choices."""

    AUTO_FOCUS = "RowList"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "answer", "choose")]

    def __init__(self, heading: str, choices: Sequence[Choice]) -> None:
        super().__init__(heading)
        self._choices = choices
        self._rows = RowList()

    def body(self) -> Iterable[Widget]:
        yield self._rows

    def on_mount(self) -> None:
        self._rows.styles.height = len(self._choices)
        width = max(len(c.label) for c in self._choices)
        self._rows.set_rows([Row(c.key, _drawn(c, width)) for c in self._choices])

    def action_answer(self) -> None:
        """Answer with the row under the cursor."""
        self._rows.action_choose()

    @on(RowList.Chosen)
    def _chosen(self, event: RowList.Chosen) -> None:
        self.dismiss(event.key)


def _drawn(choice: Choice, label_width: int) -> Callable[[int], Sequence[Line]]:
    def draw(width: int) -> Sequence[Line]:
        label = f" {fit(one_line(choice.label), label_width)}  "
        return [
            (Piece(label, "value"), Piece(fit(one_line(choice.note), max(0, width - len(label))), "muted"))
        ]

    return draw
