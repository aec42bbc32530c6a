"""Where one types: several lines, a history, completion, long pastes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from app.chat.commands import BY_NAME
from app.chat.completion import Arguments, complete
from app.chat.completion_list import CompletionList
from app.plain_text import in_place

PLACEHOLDER = "Ask, or type / for commands, @ for files"
MOST_REMEMBERED = 200


class Composer(TextArea):
    """The input. Enter sends; Shift+Enter or Ctrl+J makes a new line."""

    BINDING_GROUP_TITLE = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+shift+z", "redo", "Redo", show=False),
        Binding("ctrl+up", "to_transcript", "To the turns", show=False),
    ]

    @dataclass
    class Submitted(Message):
        """The user pressed Enter."""

        text: str

    @dataclass
    class Edited(Message):
        """The text is another one."""

        text: str

    class LeftUpwards(Message):
        """The user wants to walk over the turns."""

    @dataclass
    class PageScrolled(Message):
        """The user wants to scroll the page while typing."""

        pages: int

    def __init__(self, completion: CompletionList, arguments: Arguments) -> None:
        super().__init__(
            id="composer",
            compact=True,
            highlight_cursor_line=False,
            placeholder=PLACEHOLDER,
            max_checkpoints=200,
        )
        self._completion = completion
        self._arguments = arguments
        self._history: list[str] = []
        self._place = 0
        self._draft = ""
        self.editing = 0
        """The message that is being said differently, or 0."""

    # ---------------------------------------------------------------- text

    def put(self, text: str) -> None:
        """Replace the text and go to its end."""
        self.load_text(text)
        self.move_cursor(self.document.end)
        self._completion.show(None)

    def get_line(self, line_index: int) -> Text:
        """A line as it is drawn: an old message or a name of a file may hold what a terminal obeys."""
        return Text(in_place(self.document.get_line(line_index)), end="", no_wrap=True)

    def remember(self, text: str) -> None:
        """Keep a text for the history."""
        if text and (not self._history or self._history[-1] != text):
            self._history = [*self._history[-MOST_REMEMBERED + 1 :], text]
        self._place = len(self._history)
        self._draft = ""

    def load_history(self, texts: list[str]) -> None:
        """The history at the start, oldest first."""
        self._history = texts[-MOST_REMEMBERED:]
        self._place = len(self._history)

    def _recall(self, step: int) -> bool:
        place = self._place + step
        if not 0 <= place <= len(self._history):
            return False
        if self._place == len(self._history):
            self._draft = self.text
        self._place = place
        self.put(self._history[place] if place < len(self._history) else self._draft)
        return True

    # ---------------------------------------------------------------- actions

    def action_submit(self) -> None:
        """Send, or take what is marked in the list if that is what Enter means now."""
        if self._completion.is_open and not self._accept_by_enter():
            return
        self._completion.show(None)
        self.post_message(self.Submitted(self.text))

    def _accept_by_enter(self) -> bool:
        """Accept the marked candidate where the text alone would not do. Whether to send as well."""
        completion, chosen = self._completion.completion, self._completion.chosen
        if completion is None or chosen is None:
            return True
        typed = self._before()[completion.start :]
        if not self._completion.moved:
            if completion.kind == "argument":
                return True
            if completion.kind == "command" and typed[1:].lower() in BY_NAME:
                return True
            if completion.kind == "file" and typed.strip('@"') == chosen.insert.strip('@" '):
                return True
        self.accept()
        return chosen.runs

    def action_newline(self) -> None:
        """Begin another line."""
        self.insert("\n", maintain_selection_offset=False)

    def action_copy(self) -> None:
        """Ctrl-C: copy what is marked here; without a mark it means what it means everywhere."""
        if self.selected_text:
            super().action_copy()
        else:
            self.call_later(self.run_action, "app.copy_or_stop")

    def action_to_transcript(self) -> None:
        """Walk over the turns with the keyboard."""
        self.post_message(self.LeftUpwards())

    def action_cursor_up(self, select: bool = False) -> None:
        """Up: through the list, through the text, then through the history."""
        if self._completion.is_open:
            self._completion.move(-1)
        elif select or not self.cursor_at_first_line or not self._recall(-1):
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        """Down: the same the other way."""
        if self._completion.is_open:
            self._completion.move(1)
        elif select or not self.cursor_at_last_line or not self._recall(1):
            super().action_cursor_down(select)

    def action_cursor_page_up(self) -> None:
        """The page scrolls, the text is short."""
        self.post_message(self.PageScrolled(-1))

    def action_cursor_page_down(self) -> None:
        """The page scrolls, the text is short."""
        self.post_message(self.PageScrolled(1))

    # ---------------------------------------------------------------- completion

    def _before(self) -> str:
        return self.get_text_range((0, 0), self.cursor_location)

    def accept(self) -> None:
        """Put the marked candidate in the place of what was typed."""
        completion, chosen = self._completion.completion, self._completion.chosen
        if completion is None or chosen is None:
            return
        before = self._before()[: completion.start]
        start = (before.count("\n"), len(before) - before.rfind("\n") - 1)
        self.replace(chosen.insert, start, self.cursor_location, maintain_selection_offset=False)
        if not chosen.goes_on:
            self._completion.show(None)

    def on_text_area_changed(self) -> None:
        """Look what could follow now."""
        before = self._before() if self.has_focus and len(self.text) < 4096 else ""
        self._completion.show(
            complete(before, self._arguments) if before[:1] == "/" or "@" in before else None
        )
        self.post_message(self.Edited(self.text))

    async def _on_key(self, event: events.Key) -> None:
        """Every key takes effect before the next one.

        Textual runs bindings after the event has bubbled to the application. A letter that
        follows quickly would be inserted before a Backspace that was pressed earlier, so the
        bindings of the input are run here.
        """
        action = _KEYS.get(event.key)
        if event.key == "tab" and self._completion.is_open:
            action = Composer.accept
        if event.key == "escape" and self._completion.is_open:
            action = Composer.close_list
        if action is not None:
            event.stop()
            event.prevent_default()
            action(self)
            return
        bindings = self._bindings.key_to_bindings.get(event.key)
        if bindings:
            event.stop()
            event.prevent_default()
            await self.run_action(bindings[0].action)

    def close_list(self) -> None:
        """Close the list of candidates."""
        self._completion.show(None)

    async def _on_paste(self, event: events.Paste) -> None:
        """Line ends of other systems become ours; control characters have no business here."""
        text = event.text.replace("\r\n", "\n").replace("\r", "\n")
        event.text = text.translate(_CONTROLS)


_CONTROLS = dict.fromkeys(c for c in (*range(32), *range(127, 160)) if c not in (9, 10))

_KEYS = {
    "enter": Composer.action_submit,
    "shift+enter": Composer.action_newline,
    "ctrl+j": Composer.action_newline,
    "alt+enter": Composer.action_newline,
}
