"""A box with a line to type in and a list: typing filters, the arrows move, Enter chooses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from app.chat.format import fit
from app.chat.panel.bars import Piece
from app.chat.screens.dialog import Dialog
from app.chat.screens.row_list import Row, RowList


class SearchDialog(Dialog):
    """The focus stays where one types; the keys of the list reach it from there.

    Subclasses say what the query finds (``search``) and what choosing a row does (``choose``).
    """

    PLACEHOLDER: ClassVar[str] = "Search"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "rows('move', -1)", show=False, priority=True),
        Binding("down", "rows('move', 1)", show=False, priority=True),
        Binding("pageup", "rows('page', -1)", show=False, priority=True),
        Binding("pagedown", "rows('page', 1)", show=False, priority=True),
        Binding("ctrl+home", "rows('edge', -1)", show=False, priority=True),
        Binding("ctrl+end", "rows('edge', 1)", show=False, priority=True),
    ]

    AUTO_FOCUS = "#query"

    def __init__(self, query: str = "") -> None:
        super().__init__()
        self._first_query = query
        self.input = Input(placeholder=self.PLACEHOLDER, id="query", select_on_focus=False)
        self.rows = RowList(active=True, id="rows")
        self.rows.can_focus = False

    def body(self) -> Iterable[Widget]:
        yield self.input
        yield self.rows

    def search(self, query: str) -> None:
        """Fill the list for a query."""

    def choose(self, key: str) -> None:
        """A row was chosen."""

    @property
    def query_text(self) -> str:
        """What is typed."""
        return self.input.value

    def on_mount(self) -> None:
        with self.prevent(Input.Changed):
            self.input.value = self._first_query
        self.search(self._first_query)

    @on(Input.Changed, "#query")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.search(event.value)

    @on(Input.Submitted, "#query")
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.rows.action_choose()

    @on(RowList.Chosen)
    def _chosen(self, event: RowList.Chosen) -> None:
        event.stop()
        self.choose(event.key)

    def action_rows(self, name: str, step: int) -> None:
        """Let a key move in the list."""
        actions = {
            "move": self.rows.action_move,
            "page": self.rows.action_page,
            "edge": self.rows.action_edge,
        }
        actions[name](step)

    def action_choose(self) -> None:
        """Choose the row under the cursor."""
        self.rows.action_choose()


def message_row(text: str) -> Row:
    """A row that only says something."""
    return Row("", lambda width: [(Piece(fit(f"   {text}", width), "muted"),)], 1, selectable=False)
