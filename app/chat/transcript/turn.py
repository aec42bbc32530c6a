"""What one of the two said: a head line and the text."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.style import Style

from app.chat.format import count, size
from app.chat.markdown.blocks import Paragraph
from app.chat.markdown.layout import MUTED
from app.chat.markdown.passage import Passage
from app.chat.messages import BranchWanted, CopyWanted, EditWanted
from app.chat.transcript.one_line import OneLine
from app.plain_text import one_line, plain
from app.store.records import Message


def branch_mark(message: Message) -> Content:
    """``< 2/3 >`` with arrows that can be clicked; empty where there is one version only."""
    if message.n_siblings < 2:
        return Content("")
    back = Content.styled("◂", Style.from_meta({"@click": "walk(-1)"}))
    on = Content.styled("▸", Style.from_meta({"@click": "walk(1)"}))
    place = f" {message.sibling_index + 1}/{message.n_siblings} "
    return Content.assemble(back, place, on).stylize_before(MUTED)


class TurnHead(OneLine):
    """Who speaks, and which version of what was said this is."""

    def action_walk(self, step: int) -> None:
        """Show the version before or after this one."""
        turn = self.parent
        if isinstance(turn, Turn):
            turn.action_walk(step)


class Turn(Vertical, can_focus=True):
    """A turn; with the focus it takes single letters as commands."""

    BINDING_GROUP_TITLE = "Turn"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "neighbour(-1)", "Turn above", show=False),
        Binding("down,j", "neighbour(1)", "Turn below", show=False),
        Binding("left,h", "walk(-1)", "Earlier version", show=False),
        Binding("right,l", "walk(1)", "Later version", show=False),
        Binding("c,y", "copy", "Copy"),
        Binding("e", "edit", "Edit"),
        Binding("escape", "leave", "Back to the input", show=False),
    ]

    def __init__(self, message: Message) -> None:
        super().__init__(id=f"turn-{message.id}")
        self.message = message

    def action_neighbour(self, step: int) -> None:
        """Move the focus to the turn above or below."""
        turns = [w for w in self.parent.children if isinstance(w, Turn)] if self.parent else []
        place = turns.index(self) + step
        if 0 <= place < len(turns):
            turns[place].focus()
        elif place >= len(turns):
            self.action_leave()

    def action_walk(self, step: int) -> None:
        """Show the version before or after this one."""
        if self.message.n_siblings > 1:
            self.post_message(BranchWanted(self.message.id, step))

    def action_copy(self) -> None:
        """Copy the text of this turn."""
        self.post_message(CopyWanted(self.message.content, "message"))

    def action_edit(self) -> None:
        """Say it differently."""
        self.post_message(EditWanted(self.message.id))

    def action_leave(self) -> None:
        """Give the focus back to the input."""
        self.screen.query_one("#composer").focus()


class UserTurn(Turn):
    """What the user said, as it was typed, and the files with it."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self._head = TurnHead(classes="head")

    def compose(self) -> ComposeResult:
        yield self._head
        yield Passage([Paragraph(Content(plain(self.message.content)))], classes="said")
        for attachment in self.message.attachments:
            n_bytes = len(attachment.text.encode("utf-8", "replace"))
            n_lines = len(attachment.text.splitlines())
            lines = f"{count(n_lines)} line" + ("" if n_lines == 1 else "s")
            name = one_line(attachment.name)
            yield OneLine(f"@{name}", f"{size(n_bytes)}, {lines}", classes="attached")

    def on_mount(self) -> None:
        self.show_message(self.message)

    def show_message(self, message: Message) -> None:
        """The message changed in the store (another version was added beside it)."""
        self.message = message
        self._head.show(Content.styled("You", "bold"), branch_mark(message))
