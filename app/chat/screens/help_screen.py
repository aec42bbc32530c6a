"""All keys and commands, read from the tables that the program itself uses."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.widget import Widget

from app.chat.commands import BY_NAME, COMMANDS
from app.chat.format import fit
from app.chat.keys import key_name
from app.chat.messages import CommandWanted
from app.chat.panel.bars import Line, Piece
from app.chat.panel.lines import Lines
from app.chat.screens.dialog import Dialog
from app.chat.screens.row_list import Draw, Row, RowList, heading
from app.chat.screens.search_dialog import SearchDialog, message_row
from app.plain_text import one_line

if TYPE_CHECKING:
    from app.chat.session import Session

_KEY_WIDTH = 10
_COMMAND_WIDTH = 24
_NAME_WIDTH = 11
_WIDE = 88
"""Width of the list from which commands are shown with what follows them."""

_OWN_MODULES = "app."
_NOT_IN_THE_TREE: tuple[str, ...] = ("app.chat.screens.",)
"""Screens say their keys themselves, at their bottom."""


@dataclass(frozen=True, slots=True)
class HelpEntry:
    """One line of the help."""

    section: str
    key: str
    """As it is shown, or empty."""
    command: str
    """The slash command with what follows it, or empty."""
    summary: str
    name: str = ""
    """Of the command, to run it from here."""


def command_entries(keys: Mapping[str, str]) -> Iterator[HelpEntry]:
    """The table of commands, with the keys that the person's settings give them."""
    for section in dict.fromkeys(c.group for c in COMMANDS):
        for c in COMMANDS:
            if c.group == section:
                key = keys.get(c.name, c.key).split(",")[0]
                aliases = "".join(f", /{alias}" for alias in c.aliases)
                yield HelpEntry(
                    section, key_name(key), f"/{c.name}{aliases} {c.args}".strip(), c.summary, c.name
                )


def binding_entries(nodes: Sequence[DOMNode], keys: Mapping[str, str]) -> Iterator[HelpEntry]:
    """The keys of widgets of the program's own, those left out that only stand for a command."""
    seen: set[type] = set()
    for node in nodes:
        for kind in reversed(type(node).__mro__):
            own = vars(kind).get("BINDINGS")
            if not own or kind in seen or not kind.__module__.startswith(_OWN_MODULES):
                continue
            seen.add(kind)
            if kind.__module__.startswith(_NOT_IN_THE_TREE):
                continue
            section = vars(kind).get("BINDING_GROUP_TITLE") or _words(kind.__name__)
            for binding in own:
                if isinstance(binding, Binding) and binding.description and binding.id not in BY_NAME:
                    pressed = keys.get(binding.id or "", binding.key)
                    shown = binding.key_display or " ".join(key_name(k) for k in pressed.split(","))
                    yield HelpEntry(section, shown, "", binding.description)


def _words(name: str) -> str:
    """``ReplyTurn`` as ``Reply turn``."""
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
    return words[:1].upper() + words[1:]


class HelpScreen(SearchDialog):
    """Typing finds; Enter on a command runs it."""

    CSS_PATH = Dialog.sheets("help_screen.tcss")
    HEADING = "Keys and commands"
    PLACEHOLDER = "Find a key or a command"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "do it"),
        Binding("f1", "back", show=False),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._found: dict[str, HelpEntry] = {}
        self._in_full = InFull()

    def body(self) -> Iterable[Widget]:
        yield from super().body()
        yield self._in_full

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        message.stop()
        self._in_full.show(self._found.get(message.key))

    @property
    def entries(self) -> list[HelpEntry]:
        """Everything there is to know."""
        keys = self._session.settings.keys
        chat = self.app.screen_stack[0]
        nodes: list[DOMNode] = [self.app, chat, *chat.walk_children()]
        return [*command_entries(keys), *binding_entries(nodes, keys)]

    def search(self, query: str) -> None:
        words = query.lower().split()
        found = [
            e
            for e in self.entries
            if all(w in f"{e.section} {e.key} {e.command} {e.summary}".lower() for w in words)
        ]
        rows: list[Row] = []
        section = ""
        for number, entry in enumerate(found):
            if entry.section != section:
                section = entry.section
                rows.append(heading(section, first=not rows))
            rows.append(Row(f"{number} {entry.name}", _drawn(entry), 1, selectable=True))
        self._found = {f"{number} {e.name}": e for number, e in enumerate(found)}
        self.rows.set_rows(rows or [message_row(f"Nothing is about {one_line(query, 40)!r}.")])

    def choose(self, key: str) -> None:
        name = key.split(" ")[-1]
        if name:
            self.wish(CommandWanted(f"/{name}"))
        else:
            self.app.bell()


def _drawn(entry: HelpEntry) -> Draw:
    def draw(width: int) -> Sequence[Line]:
        key_width = max(_KEY_WIDTH, cell_len(entry.key))
        wide = width >= _WIDE
        command = entry.command if wide else entry.command.split(" ")[0].split(",")[0]
        command_width = _COMMAND_WIDTH if wide else _NAME_WIDTH
        room = max(0, width - key_width - command_width - 3)
        return [
            (
                Piece(f" {fit(entry.key, key_width)} ", "current"),
                Piece(f"{fit(command, command_width)} ", "muted"),
                Piece(fit(one_line(entry.summary), room), "value"),
            )
        ]

    return draw


class InFull(Lines):
    """The entry under the cursor in full, for narrow screens."""

    def __init__(self) -> None:
        super().__init__(id="in-full")
        self._text = ""

    def show(self, entry: HelpEntry | None) -> None:
        """Say everything about an entry."""
        parts = (entry.key, entry.command, entry.summary) if entry is not None else ()
        self._text = "  ".join(part for part in parts if part)
        self.redraw()

    def build(self, width: int) -> Sequence[Line]:
        wrapped = [*textwrap.wrap(one_line(self._text), max(10, width)), "", ""][:2]
        return [(Piece(fit(text, width), "muted"),) for text in wrapped]
