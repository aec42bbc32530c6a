"""All conversations: search as you type, look at the end, open, rename, export, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget

from app.chat.format import age, clip, count, fit, size
from app.chat.keys import key_name
from app.chat.messages import ConversationWanted, NewConversationWanted
from app.chat.panel.bars import Line, Piece, clip_line
from app.chat.panel.glyphs import Glyphs
from app.chat.panel.lines import Lines, sides
from app.chat.screens.ask import AskText, Choice, Choose
from app.chat.screens.conversation_end import ConversationEnd
from app.chat.screens.dialog import Dialog
from app.chat.screens.row_list import Draw, Row, RowList
from app.chat.screens.search_dialog import SearchDialog, message_row
from app.plain_text import one_line
from app.store.parked import ParkedFile, parked_files
from app.store.records import Conversation, SearchHit
from app.store.records import Message as StoredMessage
from quantize.errors import StretchError

if TYPE_CHECKING:
    from app.chat.session import Session

_PAGE = 200
"""Conversations that are read at once."""


class ConversationList(SearchDialog):
    """Typing searches titles and all messages; the end of the conversation is shown beside the list."""

    @dataclass
    class EndRead(Message):
        """The last messages of a conversation, for the pane beside the list."""

        key: str
        branch: list[StoredMessage]

    CSS_PATH = Dialog.sheets("conversation_list.tcss")
    HEADING = "Conversations"
    PLACEHOLDER = "Search in titles and messages"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012  # as in Dialog

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "open"),
        Binding("ctrl+n", "new", "new", priority=True),
        Binding("f2", "rename", "rename", priority=True),
        Binding("ctrl+d", "delete", "delete", priority=True),
        Binding("ctrl+z", "bring_back", "Bring back", show=False, priority=True),
        Binding("ctrl+s", "export", "export", priority=True),
        Binding("ctrl+t", "pin", "pin", priority=True),
    ]

    def __init__(self, session: Session, query: str = "") -> None:
        super().__init__(query)
        self._session = session
        self._store = session.store
        self._shown: dict[str, Conversation] = {}
        self._parked: dict[int, ParkedFile] = {}
        self._hits: dict[str, SearchHit] = {}
        self._deleted: list[int] = []
        self._end = ConversationEnd()
        self._note = Note()

    def body(self) -> Iterable[Widget]:
        yield self.input
        yield Horizontal(self.rows, self._end, id="panes")
        yield self._note

    # ---------------------------------------------------------------- the list

    def search(self, query: str) -> None:
        try:
            self._fill(query)
        except StretchError as error:
            self.rows.set_rows([message_row(str(error))])

    def _fill(self, query: str) -> None:
        words = query.strip()
        self._hits = {}
        if words:
            hits = self._store.search(words)
            self._hits = {str(h.conversation.id): h for h in hits}
            found = [h.conversation for h in hits]
        else:
            found = self._store.conversations(limit=_PAGE)
        self._shown = {str(c.id): c for c in found}
        now = time.time()
        self._parked = {f.conversation: f for f in parked_files()}
        rows = [Row(key, self._draw(c, now), 2) for key, c in self._shown.items()]
        if not rows:
            text = f"Nothing holds {one_line(words, 40)!r}." if words else "Nothing was said yet."
            rows = [message_row(text)]
        at_start = not self.rows.keys and not words
        self.rows.set_rows(rows, str(self._session.page.id) if at_start else None)
        self._look()

    def _draw(self, conversation: Conversation, now: float) -> Draw:
        current = conversation.id == self._session.page.id
        hit = self._hits.get(str(conversation.id))
        file = self._parked.get(conversation.id)
        parked = parked_words(file, now) if file is not None else ""
        return lambda width: draw_conversation(
            conversation, hit, now, width, self.rows.glyphs, current, parked
        )

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        message.stop()
        self._look()

    def _look(self) -> None:
        """Read the end of the conversation under the cursor, away from the event loop."""
        key = self.rows.cursor_key
        if not key:
            self._end.show(None, [])
            return
        self.run_worker(lambda: self._read_end(key), thread=True, exclusive=True, group="end")

    def _read_end(self, key: str) -> None:
        try:
            branch = self._store.branch(int(key))
        except StretchError:
            branch = []
        self.post_message(self.EndRead(key, branch))

    def on_conversation_list_end_read(self, message: EndRead) -> None:
        if message.key == self.rows.cursor_key:
            self._end.show(self._shown.get(message.key), message.branch)

    @property
    def _conversation(self) -> Conversation | None:
        """The one under the cursor."""
        return self._shown.get(self.rows.cursor_key)

    # ---------------------------------------------------------------- what can be done

    def choose(self, key: str) -> None:
        hit = self._hits.get(key)
        self.wish(ConversationWanted(int(key), (hit.message or 0) if hit else 0))

    def action_new(self) -> None:
        """Begin an empty conversation."""
        self.wish(NewConversationWanted())

    def action_rename(self) -> None:
        """Ask for another title."""
        conversation = self._conversation
        if conversation is None:
            return

        def rename(title: str | None) -> None:
            if title is not None and title.strip():
                self._do(lambda: self._session.rename(conversation.id, one_line(title, 200)))

        self.app.push_screen(AskText("Title of the conversation", conversation.title, _check_title), rename)

    def action_delete(self) -> None:
        """Delete the conversation under the cursor; it can be brought back."""
        conversation = self._conversation
        if conversation is None:
            return
        keys = self.rows.keys
        at = keys.index(str(conversation.id))
        neighbour = keys[at + 1] if at + 1 < len(keys) else keys[at - 1]
        if self._do(lambda: self._session.delete(conversation.id)):
            self._deleted.append(conversation.id)
            self.rows.move_to(neighbour)
            title = clip(one_line(conversation.title), 40)
            self._note.show(f"Deleted: {title}. {key_name('ctrl+z')} brings it back.")

    def action_bring_back(self) -> None:
        """Take back the last deletion."""
        if not self._deleted:
            self._note.show("Nothing was deleted here.")
            return
        id = self._deleted.pop()
        if self._do(lambda: self._store.restore(id)):
            self.rows.move_to(str(id))
            self._note.show("It is back.")

    def action_pin(self) -> None:
        """Keep the conversation at the top, or stop doing so."""
        conversation = self._conversation
        if conversation is not None:
            self._do(lambda: self._store.pin(conversation.id, not conversation.pinned))

    def action_export(self) -> None:
        """Write the conversation into the present directory."""
        conversation = self._conversation
        if conversation is None:
            return

        def export(kind: str | None) -> None:
            if kind is not None:
                self._do(lambda: self._write(conversation, kind))

        choices = [
            Choice("md", "Markdown", "the branch that is shown, to read"),
            Choice("json", "JSON", "all branches, to keep and to import"),
        ]
        self.app.push_screen(Choose(f"Export into {Path.cwd()}", choices), export)

    def _write(self, conversation: Conversation, kind: str) -> None:
        from app.store.export import export

        path = export(self._store, conversation.id, Path(), kind)
        self._note.show(f"Written to {one_line(path.name)}")

    def _do(self, change: Callable[[], object]) -> bool:
        """Do something to the store, say what went wrong, and read the list again."""
        try:
            change()
        except StretchError as error:
            self._note.show(str(error), "warning")
            return False
        self.search(self.query_text)
        return True


def _check_title(text: str) -> str:
    return "" if text.strip() else "A title needs at least one letter."


def parked_words(file: ParkedFile, now: float) -> str:
    """What is parked of a conversation: its own bytes, those that others need as well, and since when."""
    shared = f" + {size(file.shared_bytes)} shared" if file.beginnings else ""
    return f"parked {size(file.n_bytes)}{shared}, {age(file.used, now)}"


def draw_conversation(
    conversation: Conversation,
    hit: SearchHit | None,
    now: float,
    width: int,
    g: Glyphs,
    current: bool,
    parked: str = "",
) -> Sequence[Line]:
    """Two lines: title and age; model, messages, what is parked, and the preview or what was found."""
    when = age(conversation.updated, now)
    title = one_line(conversation.title) or "Untitled"
    pin = "* " if conversation.pinned else ""
    room = max(4, width - 3 - len(pin) - len(when) - 2)
    head = sides(
        (
            Piece(f" {g.mark if current else ' '} ", "current"),
            Piece(pin, "muted"),
            Piece(clip(title, room), "current" if current else "value"),
        ),
        (Piece(when, "muted"), Piece(" ")),
        width,
    )
    n = conversation.n_messages
    facts = f"{count(n)} message{'' if n == 1 else 's'}"
    if conversation.model:
        facts = f"{clip(one_line(Path(conversation.model).name), 24)} {g.dot} {facts}"
    if parked:
        facts = f"{facts} {g.dot} {parked}"
    pieces = [Piece(f"   {facts}  ", "faint")]
    if hit is not None:
        pieces += _marked(hit)
        if hit.n_hits > 1:
            pieces.append(Piece(f"  +{count(hit.n_hits - 1)}", "faint"))
    else:
        pieces.append(Piece(one_line(conversation.preview), "muted"))
    return [head, clip_line(tuple(pieces), width - 1)]


def _marked(hit: SearchHit) -> list[Piece]:
    """The snippet of a hit with the matches set off."""
    pieces: list[Piece] = []
    at = 0
    for start, end in hit.spans:
        if at <= start < end <= len(hit.snippet):
            pieces += [Piece(hit.snippet[at:start], "muted"), Piece(hit.snippet[start:end], "match")]
            at = end
    pieces.append(Piece(hit.snippet[at:], "muted"))
    return [p for p in pieces if p.text]


class Note(Lines):
    """One line about what was just done."""

    def __init__(self) -> None:
        super().__init__(id="done")
        self._text, self._style = "", "muted"

    def show(self, text: str, style: str = "current") -> None:
        """Say something."""
        self._text, self._style = text, style
        self.redraw()

    def build(self, width: int) -> Sequence[Line]:
        return [(Piece(fit(one_line(self._text), width), self._style),)]
