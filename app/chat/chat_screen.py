"""The one screen of the chat: the page, the instrument beside it, and where one types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from app.chat import messages as news
from app.chat.attachments import collect, estimate, missing
from app.chat.commands import COMMANDS, parse, unescape
from app.chat.completion_list import CompletionList
from app.chat.composer import Composer
from app.chat.format import count, size
from app.chat.header_line import HeaderLine
from app.chat.key_line import Hint, KeyLine
from app.chat.markdown.blocks import codes_in
from app.chat.markdown.blocks import parse as parse_markdown
from app.chat.news_board import NewsBoard
from app.chat.panel.memory_panel import MemoryPanel
from app.chat.panel.panel_line import PanelLine
from app.chat.transcript.entry import Entry
from app.chat.transcript.full_choice import FullChoice
from app.chat.transcript.one_line import OneLine
from app.chat.transcript.thinking import without_thinking
from app.chat.transcript.transcript import Transcript
from app.chat.transcript.turn import Turn
from app.plain_text import one_line
from quantize.errors import StretchError

if TYPE_CHECKING:
    from app.chat.app import StretchApp
    from app.chat.session import Session

KEYS_AT_REST = (
    Hint("cache", "/kv"),
    Hint("next", "/next"),
    Hint("length", "/ctx"),
    Hint("models", "/model"),
    Hint("chats", "/chats"),
    Hint("palette", key="ctrl+p"),
    Hint("help", "/help"),
    Hint("new", "/new"),
    Hint("again", "/regenerate"),
    Hint("copy", "/copy"),
    Hint("edit", "/edit"),
    Hint("quit", "/quit"),
)
KEYS_AT_WORK = (Hint("stop", "/stop"), *KEYS_AT_REST)


def _command_bindings() -> list[BindingType]:
    """The key of every command; Escape comes last, after lists and turns had their chance."""
    return [
        Binding(c.key, f"command('{c.name}')", c.summary, show=False, priority=c.key != "escape", id=c.name)
        for c in COMMANDS
        if c.key
    ]


class ChatScreen(NewsBoard):
    """Lays out the parts and passes on what happens in them."""

    AUTO_FOCUS = "#composer"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012  (Textual types it as such)
    VERTICAL_BREAKPOINTS = [(0, "-short"), (22, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        *_command_bindings(),
        Binding("alt+left", "command('branch prev')", "Earlier version", show=False, priority=True),
        Binding("shift+tab", "to_turns", "To the turns", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.header = HeaderLine()
        self.transcript = Transcript()
        self.completion = CompletionList()
        self.composer = Composer(self.completion, lambda name: self.chat_app.commander.arguments(name))
        self.panel = MemoryPanel(id="panel")
        self.panel_line = PanelLine(id="panel-line")
        self.hint = OneLine()
        self.waiting = OneLine()
        self.keys = KeyLine()
        self.hint.id, self.waiting.id = "hint", "waiting"

    @property
    def chat_app(self) -> StretchApp:
        """The application, as what it is."""
        return cast("StretchApp", self.app)

    @property
    def session(self) -> Session:
        """The controller."""
        return self.chat_app.session

    def compose(self) -> ComposeResult:
        yield self.header
        with Horizontal(id="body"):
            with Vertical(id="talk"):
                yield self.transcript
                yield self.completion
            yield self.panel
        with Vertical(id="bottom"):
            yield self.panel_line
            yield self.waiting
            with Horizontal(id="entry"):
                yield Static(">", id="prompt", markup=False)
                yield self.composer
            yield self.hint
            yield self.keys

    def on_mount(self) -> None:
        self.use_keys(self.session.settings.keys)
        self.keys.show(KEYS_AT_REST)
        self.set_class(not self.session.settings.panel, "-panel-hidden")

    def use_keys(self, keys: Mapping[str, str]) -> None:
        """Show these keys where a command's key is shown."""
        self.keys.keys = self.transcript.keys = keys
        self.keys.refresh()

    # ---------------------------------------------------------------- what is typed

    def on_composer_submitted(self, message: Composer.Submitted) -> None:
        """Enter was pressed: a command, or something to say."""
        text = message.text.strip("\n").rstrip()
        if not text.strip():
            return
        if parse(text) is not None:
            last = next(reversed(self.transcript.entries), None)
            if self.chat_app.commander.run(text):
                self.composer.remember(text)
                if self.composer.text == message.text:
                    self.composer.put("")
            self.call_later(self._show_answer, last)
            return
        try:
            attachments = collect(text)
        except StretchError as error:
            self.session.complain(error)
            return
        editing, self.composer.editing = self.composer.editing, 0
        self.composer.remember(text)
        self.composer.put("")
        self.transcript.follow()
        if editing:
            self.session.edit(editing, unescape(text), attachments)
        else:
            self.session.send_message(unescape(text), attachments)

    def _show_answer(self, last: Entry | None) -> None:
        """Go to the line with which a command was answered; what comes later by itself moves nothing."""
        now = next(reversed(self.transcript.entries), None)
        if now is not None and now is not last and now.notice is not None:
            self.transcript.follow()

    async def on_composer_edited(self, message: Composer.Edited) -> None:
        """Say what the files weigh that the text mentions, or what is being edited."""
        if not message.text and self.composer.editing:
            self.composer.editing = 0
        parts = []
        if self.composer.editing:
            parts.append("editing an earlier message; enter sends it as another version, esc leaves it")
        if "@" in message.text and len(message.text) < 20_000:
            try:
                for file in collect(message.text):
                    n_bytes = len(file.text.encode())
                    name = one_line(file.name, 40)
                    n = estimate(n_bytes)
                    parts.append(f"@{name} {size(n_bytes)}, about {count(n)} token{'' if n == 1 else 's'}")
            except StretchError as error:
                parts.append(str(error))
            if not self.completion.is_open:
                parts += [one_line(sentence, 80) for sentence in missing(message.text)]
        self.hint.show(" · ".join(parts))
        self.hint.display = bool(parts)

    def begin_edit(self, message_id: int) -> None:
        """Put a message of the user into the input."""
        message = self.session.page.find(message_id)
        if message is None or message.role != "user":
            return
        self.composer.put(message.content)
        self.composer.editing = message_id
        self.composer.focus()

    def on_composer_page_scrolled(self, message: Composer.PageScrolled) -> None:
        if message.pages < 0:
            self.transcript.scroll_page_up()
        else:
            self.transcript.scroll_page_down()

    # ---------------------------------------------------------------- keys

    def action_command(self, text: str) -> None:
        """A key stands for a slash command."""
        if text == "stop" and self.composer.editing and not self.session.busy:
            self.composer.editing = 0
            self.composer.put("")
            return
        if text == "stop" and self.has_class("-panel-open"):
            self.toggle_panel()
            return
        self.chat_app.commander.run(f"/{text}")

    def on_key(self, event: events.Key) -> None:
        """A key that comes before anything has the focus (the program has just started) is typed."""
        if self.focused is None:
            self.composer.focus()
            if event.is_printable and event.character is not None:
                event.stop()
                self.composer.insert(event.character)
            elif event.key == "enter":
                event.stop()
                self.composer.action_submit()

    @on(Composer.LeftUpwards)
    def action_to_turns(self) -> None:
        """Walk over the turns, the last one first."""
        turns = self.transcript.query_children(Turn)
        choice = self.transcript.query_children(FullChoice)
        if choice and self.focused is self.composer:
            choice.first().focus()
            return
        if isinstance(self.focused, Turn) or not turns:
            self.composer.focus()
        else:
            turns.last().focus()

    def on_panel_left(self) -> None:
        """Back to the input; where the panel lies over the page it folds."""
        if self.has_class("-panel-open"):
            self.toggle_panel()
        else:
            self.composer.focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The last row shows the keys of what has the focus."""
        self.call_after_refresh(self.show_keys)

    def show_keys(self) -> None:
        """Show the keys that matter now."""
        focused = self.focused
        if focused is None or focused is self.composer:
            self.keys.show(KEYS_AT_WORK if self.session.busy or self.session.losses.running else KEYS_AT_REST)
            return
        own = {
            active.binding.description: Hint(active.binding.description.lower(), key=active.binding.key)
            for active in reversed(self.active_bindings.values())
            if active.node is focused and active.binding.show
        }
        back = () if any(hint.key == "escape" for hint in own.values()) else (Hint("back", key="escape"),)
        self.keys.show((*reversed(own.values()), *back, *KEYS_AT_REST))

    def toggle_panel(self) -> None:
        """Fold or open the memory panel; on a narrow screen it opens over the page."""
        if self.has_class("-narrow"):
            self.toggle_class("-panel-open")
            if self.has_class("-panel-open"):
                self.panel.focus_table()
            else:
                self.composer.focus()
            return
        self.toggle_class("-panel-hidden")
        self.chat_app.change_setting("panel", not self.has_class("-panel-hidden"))
        if self.focused is None or not self.focused.is_on_screen:
            self.composer.focus()

    # ---------------------------------------------------------------- turns

    def copy_last(self, *, code: bool) -> None:
        """Copy the last reply, or the last block of code in it."""
        replies = self.transcript.replies
        if not replies:
            self.session.notify("There is no reply to copy yet.")
        elif not code:
            self.chat_app.copy_text(without_thinking(replies[-1]), "reply")
        else:
            found = (codes_in(parse_markdown(without_thinking(text))) for text in reversed(replies))
            codes = next(filter(None, found), None)
            if codes:
                self.chat_app.copy_text(codes[-1].source, "code")
            else:
                self.session.notify("There is no block of code here.")

    def on_edit_wanted(self, message: news.EditWanted) -> None:
        message.stop()
        self.begin_edit(message.message_id)

    def on_full_choice_chosen(self, message: FullChoice.Chosen) -> None:
        message.stop()
        self.run_worker(self.transcript.remove_choice(), exclusive=False)
        self.composer.focus()
        self.session.resolve_full(message.option)

    def on_completion_list_accepted(self) -> None:
        self.composer.accept()
        self.composer.focus()
