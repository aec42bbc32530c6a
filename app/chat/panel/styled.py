"""The styles of pieces: names that every widget of lines knows, resolved through the theme."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from app.chat.format import DASH, MINUS
from app.chat.panel.bars import Line
from app.chat.panel.glyphs import ASCII, Glyphs, glyphs
from app.plain_text import plain

STYLES = {
    "title": "color: $foreground; text-style: bold;",
    "muted": "color: $text-muted;",
    "faint": "color: $text-disabled;",
    "value": "color: $foreground;",
    "current": "color: $text-primary;",
    "warning": "color: $text-warning;",
    "error": "color: $text-error;",
    "match": "color: $text-primary; text-style: bold underline;",
    "cursor": "background: $block-cursor-background; color: $block-cursor-foreground;",
    "hover": "background: $foreground 8%;",
    "track": "color: $foreground 12%;",
    "weights": "color: $secondary;",
    "repacked": "color: $secondary 60%;",
    "cache": "color: $primary;",
    "buffers": "color: $primary 55%;",
    "program": "color: $foreground 75%;",
    "others": "color: $foreground 28%;",
    "beyond": "color: $primary 40%;",
    "tick": "color: $foreground 60%;",
}
"""Component classes and what they look like; only variables of the theme give colours."""

_ANSI_STYLES = {
    "muted": "text-style: dim;",
    "faint": "text-style: dim;",
    "track": "text-style: dim;",
    "others": "color: ansi_bright_black;",
    "program": "color: ansi_default;",
    "hover": "text-style: underline;",
}
"""Where the terminal's own sixteen colours are used, which know no shades."""


def css(widget: str) -> str:
    """The rules of all styles for a class of widgets."""
    rules = [f"{widget} > .{name} {{ {rule} }}" for name, rule in STYLES.items()]
    rules += [f"{widget}:ansi > .{name} {{ {rule} }}" for name, rule in _ANSI_STYLES.items()]
    return "\n".join(rules)


_IN_ASCII = str.maketrans({MINUS: "-", DASH: "-", "…": "."})


def _harmless(text: str) -> str:
    """The last gate: whatever a piece was made of, no terminal obeys it."""
    if not text.isprintable():
        text = plain(text).replace("\n", " ")
    return text.translate(_IN_ASCII) if glyphs() is ASCII else text


@cache
def _solid(found: Glyphs) -> Glyphs:
    return replace(found, track=found.full, thin_track=found.thin)


class Styled(Widget):
    """A widget whose lines are pieces with names of styles.

    Names combine with spaces (``"value cursor"``); ``"a|b"`` takes the colour of ``a`` on the
    colour of ``b``. Text is never read as markup. Subclasses put ``css(...)`` into their
    ``DEFAULT_CSS`` and ``STYLES`` into their ``COMPONENT_CLASSES``.
    """

    _styles_found: dict[tuple[bool, str], Style] | None = None

    _textured: bool | None = None

    @property
    def textured(self) -> bool:
        """Whether colours are too few to tell the segments of a bar apart."""
        if self._textured is None:
            app = self.app
            few = app.console.color_system in (None, "standard")
            self._textured = app.native_ansi_color or app.no_color or few
        return self._textured

    @property
    def glyphs(self) -> Glyphs:
        """The characters to draw with; with enough colours the tracks of bars are solid."""
        found = glyphs()
        return found if self.textured or not found.parts else _solid(found)

    def strip_of(self, line: Line, width: int, fill: str = "") -> Strip:
        """A line as Textual wants it, ``width`` cells wide, the rest in the style ``fill``."""
        segments = [Segment(_harmless(p.text), self.style_named(p.style)) for p in line if p.text]
        return Strip(segments).adjust_cell_length(width, self.style_named(fill))

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles_found = self._textured = None

    def style_named(self, name: str) -> Style:
        """The style of a piece, on the background of the widget."""
        if self._styles_found is None:
            self._styles_found = {}
        key = (self.has_focus, name)
        style = self._styles_found.get(key)
        if style is None:
            front, _, back = name.partition("|")
            style = self.get_visual_style(*front.split()).rich_style
            if back and not self.textured:
                behind = self.get_visual_style(back).rich_style
                style = Style(color=style.color, bgcolor=behind.color)
            self._styles_found[key] = style
        return style
