"""Every command in the command palette, and the cache settings of the model by name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider

from app.chat.commands import COMMANDS
from app.chat.format import setting
from app.chat.keys import key_name
from app.chat.messages import CommandWanted

if TYPE_CHECKING:
    from app.chat.app import StretchApp


class CommandProvider(Provider):
    """Finds commands by their name and by what they do."""

    async def discover(self) -> Hits:
        for command in COMMANDS:
            help = _help(f"/{command.name} {command.args}", command.key)
            yield DiscoveryHit(command.summary, partial(self._run, f"/{command.name}"), help=help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for title, words, call, help in self._all():
            score = max(matcher.match(title), matcher.match(words))
            if score > 0:
                yield Hit(score, matcher.highlight(title), partial(self._run, call), help=help)

    def _all(self) -> Iterator[tuple[str, str, str, str]]:
        """Title, other words to find it by, the slash command, the help line."""
        for command in COMMANDS:
            words = " ".join(("/" + command.name, *command.aliases))
            yield (
                command.summary,
                words,
                f"/{command.name}",
                _help(f"/{command.name} {command.args}", command.key),
            )
        app = cast("StretchApp", self.app)
        for row in app.session.status.rows if app.session.status else ():
            if not row.refused:
                label = setting(row.type_k, row.type_v)
                yield f"Change the cache to {label}", f"/kv {label}", f"/kv {label}", _help(f"/kv {label}")
        for name in app.available_themes:
            yield f"Change the colours to {name}", f"/theme {name}", f"/theme {name}", _help(f"/theme {name}")

    def _run(self, call: str) -> None:
        self.app.post_message(CommandWanted(call))


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


def _help(call: str, key: str = "") -> str:
    """The line under a hit; it is read as markup there."""
    return f"{call.strip()}   {key_name(key)}".strip().replace("[", r"\[")
