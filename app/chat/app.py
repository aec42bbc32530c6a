"""The Textual application: it holds the session, opens the screens and hears what widgets wish."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from app import paths
from app.chat import messages as news
from app.chat.chat_screen import ChatScreen
from app.chat.commander import Commander
from app.chat.guarded import Guarded
from app.chat.messages import Action, Notice
from app.chat.session import Session
from app.chat.themes import AUTOMATIC, THEMES, choose
from app.options import ChatOptions
from app.plain_text import one_line
from app.store.preferences import Preferences
from app.store.store import Store
from quantize.errors import StretchError, UsageError

if TYPE_CHECKING:
    from textual.command import Provider


def _palette() -> type[Provider]:
    from app.chat.palette import CommandProvider

    return CommandProvider


class StretchApp(Guarded, App[int]):
    """The chat.

    Args:
        options: What the command line asked for.
    """

    TITLE = "Stretch"
    CSS_PATH = Path(__file__).with_name("chat.tcss")
    ENABLE_COMMAND_PALETTE = True
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {_palette}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "copy_or_stop", "Copy, stop or leave", show=False, system=True),
    ]

    def __init__(self, options: ChatOptions | None = None) -> None:
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        self.options = options or ChatOptions()
        self.store = Store(paths.database_path())
        self.preferences = Preferences(paths.settings_path(), self.store)
        self.session = Session(
            self.store, self.preferences, self._post_to_chat, log_path=paths.log_path(), options=self.options
        )
        self.commander = Commander(self)
        self.chat = ChatScreen()
        self._begin_with_theme(self._theme_of_settings())
        self.set_keymap(dict(self.session.settings.keys))

    def get_default_screen(self) -> Screen[None]:
        return self.chat

    def _post_to_chat(self, message: Message) -> bool:
        return self.chat.post_message(message)

    def on_ready(self) -> None:
        """The first frame is on the screen."""
        gc.freeze()
        gc.enable()
        # Ended from outside, the program still gives the terminal back and saves what is written.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._terminated)
        self.begin()

    def _terminated(self) -> None:
        self.session.talk.leave()
        self.exit(return_code=128 + signal.SIGTERM)

    def begin(self) -> None:
        """Open the conversation and let the engine come."""
        self.session.start()
        wanted = self.session.settings.theme
        if wanted not in (AUTOMATIC, *self.available_themes):
            self.session.notify(
                f"There is no theme called {one_line(wanted, 40)}.",
                "warning",
                [Action("choose one", "/theme")],
            )

    def complain(self, error: StretchError) -> None:
        self.session.complain(error)

    def on_unmount(self) -> None:
        self.session.close()

    # ---------------------------------------------------------------- settings

    def _theme_of_settings(self) -> str:
        return choose(self.session.settings.theme, self.available_themes, self.console.color_system)

    def _begin_with_theme(self, name: str) -> None:
        if self.available_themes[name].ansi:
            self.theme = name
            return
        # Not through the watcher: that would parse every style sheet a second time at the start.
        self.set_reactive(App.theme, name)
        self.stylesheet.set_variables(self.get_css_variables())

    def change_setting(self, key: str, value: object, scope: str = "") -> None:
        """Change a setting and let it take effect.

        Raises:
            StretchError: if it cannot be set so.
        """
        if key == "theme" and value is not None and value not in (AUTOMATIC, *self.available_themes):
            names = ", ".join(self.available_themes)
            raise UsageError(f"There is no theme called {one_line(str(value), 40)}.", f"There are {names}.")
        screen_wide = key in ("theme", "panel", "keys", "default_model", "model_folders")
        self.session.set_setting(key, value, scope or ("global" if screen_wide else "conversation"))
        match key:
            case "theme":
                self.theme = self._theme_of_settings()
            case "keys":
                self.set_keymap(dict(self.session.settings.keys))
                self.chat.use_keys(self.session.settings.keys)
            case "type_k" | "type_v" | "n_ctx" | "tail":
                s = self.session.settings
                self.session.set_cache(s.type_k, s.type_v, s.n_ctx or -1, s.tail)

    def on_setting_wanted(self, message: news.SettingWanted) -> None:
        try:
            self.change_setting(message.key, message.value, message.scope)
        except StretchError as error:
            self.session.complain(error)

    # ---------------------------------------------------------------- wishes

    def on_command_wanted(self, message: news.CommandWanted) -> None:
        self.commander.run(message.text)

    def on_cache_wanted(self, message: news.CacheWanted) -> None:
        try:
            self.session.set_cache(message.type_k, message.type_v, message.n_ctx, message.tail)
        except StretchError as error:
            self.session.complain(error)
        if message.reprefill:
            self.session.reprefill()

    def on_next_preset_wanted(self, message: news.NextPresetWanted) -> None:
        self.session.next_preset(message.step)

    def on_undo_wanted(self, message: news.UndoWanted) -> None:
        self.session.undo_cache()

    def on_reprefill_wanted(self, message: news.ReprefillWanted) -> None:
        self.session.reprefill()

    def on_length_wanted(self, message: news.LengthWanted) -> None:
        if message.n_ctx:
            self.session.set_ctx(message.n_ctx)
        else:
            self.open_length_chooser()

    def on_model_wanted(self, message: news.ModelWanted) -> None:
        self.session.load_model(message.name)

    def on_conversation_wanted(self, message: news.ConversationWanted) -> None:
        self.session.open_conversation(message.id, message.message_id)

    def on_new_conversation_wanted(self, message: news.NewConversationWanted) -> None:
        self.session.new_conversation()

    def on_rename_wanted(self, message: news.RenameWanted) -> None:
        self.session.rename(message.id, message.title)

    def on_delete_wanted(self, message: news.DeleteWanted) -> None:
        self.session.delete(message.id)

    def on_branch_wanted(self, message: news.BranchWanted) -> None:
        self.session.switch_branch(message.message_id, message.step)

    def on_regenerate_wanted(self, message: news.RegenerateWanted) -> None:
        self.session.regenerate(message.message_id)

    def on_continue_wanted(self, message: news.ContinueWanted) -> None:
        self.session.continue_reply(message.message_id)

    def on_stop_wanted(self, message: news.StopWanted) -> None:
        self.session.stop()

    def on_copy_wanted(self, message: news.CopyWanted) -> None:
        self.copy_text(message.text, message.what)

    async def on_preview_wanted(self, message: news.PreviewWanted) -> None:
        """Answer without keeping the application from hearing other wishes."""
        self.run_worker(self._preview(message), group="preview", exclusive=True)

    async def _preview(self, wish: news.PreviewWanted) -> None:
        try:
            preview = await self.session.preview_cache(wish.type_k, wish.type_v, wish.n_ctx, wish.tail)
        except StretchError:
            return  # the row says itself what is refused
        for shows in (self.chat.panel, self.screen):
            if callable(show := getattr(shows, "show_preview", None)):
                show(preview)

    def on_downloads_changed(self, message: news.DownloadsChanged) -> None:
        """Let every screen that shows downloads draw them anew."""
        for screen in self.screen_stack:
            if callable(show := getattr(screen, "show_downloads", None)):
                show(message.done)

    # ---------------------------------------------------------------- screens

    def action_command_palette(self) -> None:
        """Search everything that can be done."""
        from app.chat.palette import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette", placeholder="What shall be done?"))

    def open_cache_chooser(self) -> None:
        """Choose the cache types."""
        from app.chat.screens.cache_chooser import CacheChooser

        self.push_screen(CacheChooser(self.session))

    def open_length_chooser(self) -> None:
        """Choose the length of the context."""
        from app.chat.screens.length_chooser import LengthChooser

        self.push_screen(LengthChooser(self.session))

    def open_model_picker(self) -> None:
        """Choose a model."""
        from app.chat.screens.model_picker import ModelPicker

        self.push_screen(ModelPicker(self.session))

    def open_conversations(self, query: str = "") -> None:
        """Choose a conversation."""
        from app.chat.screens.conversation_list import ConversationList

        self.push_screen(ConversationList(self.session, query))

    def open_settings(self) -> None:
        """Look at the settings and change them."""
        from app.chat.screens.settings_screen import SettingsScreen

        self.push_screen(SettingsScreen(self.session))

    def open_help(self) -> None:
        """All keys and commands."""
        from app.chat.screens.help_screen import HelpScreen

        self.push_screen(HelpScreen(self.session))

    # ---------------------------------------------------------------- the clipboard and leaving

    def copy_text(self, text: str, what: str) -> None:
        """Put ``text`` on the terminal's clipboard (OSC 52)."""
        self.copy_to_clipboard(text)
        self._post_to_chat(Notice(f"The {what} is on the clipboard.", "good"))

    async def action_quit(self) -> None:
        """Ctrl-Q, from every screen."""
        self.commander.run("/quit")

    def action_copy_or_stop(self) -> None:
        """Ctrl-C: copy what is marked, else stop the reply, else say how to leave."""
        selected = self.screen.get_selected_text()
        if selected:
            self.copy_text(selected, "marked text")
            self.screen.clear_selection()
        elif not self.session.stop():
            self.session.notify("Everything is saved.", actions=[Action("leave", "/quit")])
            self.chat.transcript.follow()
