"""Every command in the command palette, and the cache settings of the model by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider

from app.chat.commands import COMMANDS
from app.chat.format import setting
from app.chat.keys import key_name, key_of
from app.chat.messages import CommandWanted

if TYPE_CHECKING:
    from app.chat.app import StretchApp


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that can be done."""

    title: str
    call: str
    """The slash command that does it."""
    usage: str = ""
    """The command with its arguments, if it has any."""
    words: str = ""
    """Other words to find it by."""


class CommandProvider(Provider):
    """Finds commands by their name and by what they do."""

    @property
    def _app(self) -> StretchApp:
        return cast("StretchApp", self.app)

    async def discover(self) -> Hits:
        for entry in self._commands():
            yield DiscoveryHit(entry.title, partial(self._run, entry.call), help=self._help(entry))

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for entry in (*self._commands(), *self._choices()):
            score = max(matcher.match(entry.title), matcher.match(f"{entry.call} {entry.words}"))
            if score > 0:
                title = matcher.highlight(entry.title)
                yield Hit(score, title, partial(self._run, entry.call), help=self._help(entry))

    def _commands(self) -> Iterator[Entry]:
        for command in COMMANDS:
            yield Entry(
                command.summary,
                f"/{command.name}",
                f"/{command.name} {command.args}",
                " ".join(f"/{alias}" for alias in command.aliases),
            )

    def _choices(self) -> Iterator[Entry]:
        """What the arguments of some commands can be."""
        status = self._app.session.status
        for row in status.rows if status else ():
            if not row.refused:
                label = setting(row.type_k, row.type_v)
                yield Entry(f"Change the cache to {label}", f"/kv {label}")
        for name in self._app.available_themes:
            yield Entry(f"Change the colours to {name}", f"/theme {name}")

    def _run(self, call: str) -> None:
        self._app.post_message(CommandWanted(call))

    def _help(self, entry: Entry) -> str:
        """The line under a title. It is read as markup there."""
        key = "" if " " in entry.call else key_of(entry.call, self._app.session.settings.keys)
        return f"{(entry.usage or entry.call).strip()}   {key_name(key)}".strip().replace("[", r"\[")


class Palette(CommandPalette):
    """Textual's palette, as calm as the rest of the screen."""

    DEFAULT_CSS = """
    Palette { background: $background 50%; }
    Palette > Vertical { max-width: 88; margin-top: 2; background: $surface; }
    Palette #--input { border: none; border-bottom: solid $border; padding: 0 1; }
    Palette #--input.--list-visible { border-bottom: solid $border; }
    Palette SearchIcon { display: none; }
    Palette CommandInput { padding-left: 1; }
    Palette CommandList { border: none; background: $surface; max-height: 60vh; }
    Palette CommandList > .option-list--option { text-style: none; padding: 0 2; }
    Palette CommandList > .option-list--option-highlighted {
        background: $block-cursor-background; color: $block-cursor-foreground;
    }
    Palette > .command-palette--help-text { text-style: dim; }
    Palette > .command-palette--highlight { text-style: underline; }
    """
