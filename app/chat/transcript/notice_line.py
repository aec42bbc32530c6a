"""A quiet line between the turns: what happened, and the next step as a key."""

from __future__ import annotations

from collections.abc import Mapping

from textual.content import Content
from textual.style import Style
from textual.widgets import Static

from app.chat.keys import key_name, key_of
from app.chat.markdown.layout import MUTED
from app.chat.messages import CommandWanted, Kind, Notice
from app.plain_text import plain

_STYLES: dict[Kind, str] = {
    "info": "$text-muted",
    "good": "$text-muted",
    "warning": "",
    "error": "",
}
_MARK_STYLES: dict[Kind, str] = {"warning": "$text-warning", "error": "$text-error"}
_MARKS: dict[Kind, str] = {"info": "·", "good": "✓", "warning": "!", "error": "✗"}


class NoticeLine(Static):
    """One notice. Its actions can be clicked; their keys work wherever the focus is."""

    DEFAULT_CSS = """
    NoticeLine { width: 1fr; height: auto; }
    """

    def __init__(self, notice: Notice, keys: Mapping[str, str]) -> None:
        super().__init__(self._content(notice, keys), markup=False)
        self.notice = notice
        self.auto_links = False

    @staticmethod
    def _content(notice: Notice, keys: Mapping[str, str]) -> Content:
        style = _STYLES[notice.kind]
        parts: list[Content | str] = [
            Content.styled(f"{_MARKS[notice.kind]} ", _MARK_STYLES.get(notice.kind, style)),
            Content.styled(plain(notice.text), style),
        ]
        for n, action in enumerate(notice.actions):
            click = Style.from_meta({"@click": f"act({n})"})
            key = f"{key_name(key_of(action.command, keys))} ".lstrip()
            label = Content.assemble((key, "bold $text-primary"), (action.label, MUTED))
            parts += ["  ", label.stylize(click)]
        return Content.assemble(*parts)

    def action_act(self, index: int) -> None:
        """Do one of the offered actions."""
        self.post_message(CommandWanted(self.notice.actions[index].command))
