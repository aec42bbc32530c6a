"""The settings: what they are, where each value comes from, and changing them in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import events
from textual.binding import Binding, BindingType
from textual.widget import Widget

from app.chat.format import clip_middle, fit
from app.chat.messages import SettingWanted
from app.chat.panel.bars import Line, Piece
from app.chat.panel.lines import Lines
from app.chat.screens.ask import AskText
from app.chat.screens.dialog import Dialog
from app.chat.screens.row_list import Draw, Row, RowList, heading
from app.chat.screens.setting_rows import AT_ONCE, EVERYWHERE_ONLY, draw_setting, stepped, typed
from app.plain_text import one_line
from app.store.settings import SECTIONS, SETTINGS, Setting
from quantize.cache_types import CACHE_TYPES
from quantize.errors import StretchError

if TYPE_CHECKING:
    from app.chat.session import Session

ScopeName = Literal["conversation", "model", "global"]

_SCOPES: dict[ScopeName, str] = {
    "conversation": "this conversation",
    "model": "this model",
    "global": "everywhere",
}


class SettingsScreen(Dialog):
    """A list by sections; Enter changes, the scope above says for what."""

    CSS_PATH = Dialog.sheets("settings_screen.tcss")
    HEADING = "Settings"
    AUTO_FOCUS = "#settings"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "change(1)", "change"),
        Binding("left", "change(-1, True)", show=False),
        Binding("right,space", "change(1, True)", show=False),
        Binding("tab", "scope(1)", "for what"),
        Binding("shift+tab", "scope(-1)", show=False),
        Binding("delete,backspace", "reset", "reset", key_display="del"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._scopes = self._possible_scopes()
        self._scope: ScopeName = self._scopes[0]
        self._rows = RowList(id="settings")
        self._about = About()
        self._tabs = ScopeTabs(self._scopes, self.take_scope)
        self._seen: object = None

    def _possible_scopes(self) -> list[ScopeName]:
        scopes: list[ScopeName] = ["global"]
        if self._session.model:
            scopes.insert(0, "model")
        if self._session.page.id:
            scopes.insert(0, "conversation")
        return scopes

    def body(self) -> Iterable[Widget]:
        yield self._tabs
        yield self._rows
        yield self._about

    def on_mount(self) -> None:
        self._reload()
        # The application changes settings after the wish has reached it.
        self.set_interval(0.1, self._reload)

    # ---------------------------------------------------------------- what is shown

    def _reload(self) -> None:
        session = self._session
        try:
            origins = session.preferences.origins(
                model=session.model, conversation=session.page.id, overrides=session.overrides
            )
        except StretchError as error:
            self._about.show_problem(str(error))
            return
        values = session.settings
        seen = (values, tuple(origins.items()))
        if seen == self._seen:
            return
        self._seen = seen
        rows: list[Row] = []
        for section in SECTIONS:
            rows.append(heading(section.capitalize(), first=not rows))
            for setting in SETTINGS.values():
                if setting.section == section:
                    value = getattr(values, setting.name)
                    rows.append(Row(setting.name, _drawn(setting, value, origins[setting.name])))
        self._rows.set_rows(rows)
        self._explain()

    def on_row_list_moved(self, message: RowList.Moved) -> None:
        message.stop()
        self._explain()

    def on_row_list_chosen(self, message: RowList.Chosen) -> None:
        message.stop()
        self.action_change(1)

    def _explain(self) -> None:
        setting = self._setting
        if setting is not None:
            remark = "" if self._applies(setting) else "It holds everywhere. "
            if setting.section == "engine" and setting.name not in AT_ONCE:
                remark = "From the next load of a model on. "
            self._about.show(setting, remark)
        self._tabs.show(self._effective_scope)

    @property
    def _setting(self) -> Setting | None:
        return SETTINGS.get(self._rows.cursor_key)

    @staticmethod
    def _applies(setting: Setting) -> bool:
        """Whether it can differ between models and conversations."""
        return setting.section not in EVERYWHERE_ONLY

    @property
    def _effective_scope(self) -> ScopeName:
        setting = self._setting
        return self._scope if setting is None or self._applies(setting) else "global"

    # ---------------------------------------------------------------- changing

    def take_scope(self, scope: ScopeName) -> None:
        """Change settings for this from now on."""
        self._scope = scope
        self._explain()

    def action_scope(self, step: int) -> None:
        """Go to the next scope."""
        at = self._scopes.index(self._scope)
        self.take_scope(self._scopes[(at + step) % len(self._scopes)])

    def action_change(self, step: int, stay: bool = False) -> None:
        """Step a switch or a choice on; let anything else be typed.

        Args:
            stay: do nothing to settings that are typed (the arrow keys).
        """
        setting = self._setting
        if setting is None:
            return
        if setting.name == "keys":
            self._about.show_problem(f"Keys are changed in {self._session.preferences.path}")
            return
        value = getattr(self._session.settings, setting.name)
        names = list(CACHE_TYPES) if setting.cache else []
        if setting.name == "theme":
            names = sorted(self.app.available_themes)
        new = stepped(setting, value, step, names)
        if new is not None:
            self._want(setting, new)
        elif not stay:
            self._type(setting, value)

    def _type(self, setting: Setting, value: object) -> None:
        def check(text: str) -> str:
            try:
                setting.parse(text)
            except StretchError as error:
                return str(error)
            return ""

        def take(text: str | None) -> None:
            if text is not None:
                self._want(setting, setting.parse(text))

        heading = f"{setting.name}, {_SCOPES[self._effective_scope]}: {setting.expected}"
        self.app.push_screen(AskText(heading, typed(value), check), take)

    def _want(self, setting: Setting, value: object) -> None:
        self.app.post_message(SettingWanted(setting.name, value, self._effective_scope))

    def action_reset(self) -> None:
        """Let the layer below decide again."""
        setting = self._setting
        if setting is not None:
            self.app.post_message(SettingWanted(setting.name, None, self._effective_scope))


def _drawn(setting: Setting, value: object, origin: str) -> Draw:
    return lambda width: draw_setting(setting, value, origin, width)


class ScopeTabs(Lines):
    """For what a setting is changed; a click chooses."""

    def __init__(self, scopes: Sequence[ScopeName], choose: Callable[[ScopeName], None]) -> None:
        super().__init__(id="scopes")
        self._scopes = scopes
        self._choose = choose
        self._current: ScopeName = scopes[0]

    def show(self, scope: ScopeName) -> None:
        """Mark the one in use."""
        self._current = scope
        self.redraw()

    def build(self, width: int) -> Sequence[Line]:
        pieces = [Piece("For  ", "muted")]
        for scope in self._scopes:
            style = "cursor" if scope == self._current else "muted"
            pieces += [Piece(f" {_SCOPES[scope]} ", style), Piece(" ")]
        return [tuple(pieces)]

    def on_click(self, event: events.Click) -> None:
        x = len("For  ")
        for scope in self._scopes:
            end = x + len(_SCOPES[scope]) + 2
            if x <= event.x < end:
                self._choose(scope)
            x = end + 1


class About(Lines):
    """What the setting under the cursor is, and what it can be."""

    def __init__(self) -> None:
        super().__init__(id="about")
        self._texts: tuple[tuple[str, str], ...] = ()

    def show(self, setting: Setting, remark: str = "") -> None:
        """Explain a setting."""
        expected = "one of the cache types" if setting.cache else setting.expected
        self._texts = (
            (f"{remark}{setting.about}", "muted"),
            (expected[:1].upper() + expected[1:] + ".", "faint"),
        )
        self.redraw()

    def show_problem(self, text: str) -> None:
        """Say what cannot be done."""
        self._texts = ((text, "warning"), ("", "muted"))
        self.redraw()

    def build(self, width: int) -> Sequence[Line]:
        return [
            (Piece(fit(clip_middle(one_line(text), width), width), style),) for text, style in self._texts
        ] or [()] * 2
