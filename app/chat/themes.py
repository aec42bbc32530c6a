"""The themes of Stretch's own: a dark one, a light one, and one for terminals with sixteen colours.

One accent colour, called ``$primary`` (``$text-primary`` for text), marks what is current.
``$warning`` (amber) and ``$error`` (red) are kept for memory and context running out and for
what failed. Style sheets that follow this rule look right in Textual's own themes as well.
"""

from __future__ import annotations

from collections.abc import Container

from textual.theme import Theme

DARK = Theme(
    name="stretch-dark",
    primary="#6cc4b4",
    secondary="#8b98a9",
    accent="#6cc4b4",
    success="#6cc4b4",
    warning="#e3a857",
    error="#e5705f",
    foreground="#d9dde3",
    background="#101317",
    surface="#171b20",
    panel="#1e2329",
    dark=True,
    variables={
        "text-primary": "#7fd0c1",
        "text-accent": "#7fd0c1",
        "text-success": "#7fd0c1",
        "text-secondary": "#a9b4c2",
        "text-warning": "#e9b872",
        "text-error": "#ee8b7c",
        "text-muted": "#8a939f",
        "text-disabled": "#59616b",
        "border": "#2b323a",
        "border-blurred": "#2b323a",
        "block-cursor-background": "#6cc4b4",
        "block-cursor-foreground": "#101317",
        "block-cursor-text-style": "none",
        "input-cursor-background": "#d9dde3",
        "input-cursor-foreground": "#101317",
        "input-selection-background": "#6cc4b4 30%",
        "scrollbar": "#2b323a",
        "scrollbar-hover": "#3a434d",
        "scrollbar-active": "#6cc4b4",
        "scrollbar-background": "#101317",
        "scrollbar-background-hover": "#101317",
        "scrollbar-background-active": "#101317",
        "scrollbar-corner-color": "#101317",
        "footer-key-foreground": "#7fd0c1",
        "screen-selection-background": "#6cc4b4 35%",
    },
)

LIGHT = Theme(
    name="stretch-light",
    primary="#0f766e",
    secondary="#5c6773",
    accent="#0f766e",
    success="#0f766e",
    warning="#b45f06",
    error="#b3261e",
    foreground="#24292f",
    background="#fbfaf7",
    surface="#f3f1ec",
    panel="#eae7e0",
    dark=False,
    variables={
        "text-primary": "#0b665f",
        "text-accent": "#0b665f",
        "text-success": "#0b665f",
        "text-secondary": "#4b5560",
        "text-warning": "#9a4f00",
        "text-error": "#a11d16",
        "text-muted": "#666e77",
        "text-disabled": "#a3a8ad",
        "border": "#d8d4ca",
        "border-blurred": "#d8d4ca",
        "block-cursor-background": "#0f766e",
        "block-cursor-foreground": "#fbfaf7",
        "block-cursor-text-style": "none",
        "input-cursor-background": "#24292f",
        "input-cursor-foreground": "#fbfaf7",
        "input-selection-background": "#0f766e 25%",
        "scrollbar": "#d8d4ca",
        "scrollbar-hover": "#c4bfb3",
        "scrollbar-active": "#0f766e",
        "scrollbar-background": "#fbfaf7",
        "scrollbar-background-hover": "#fbfaf7",
        "scrollbar-background-active": "#fbfaf7",
        "scrollbar-corner-color": "#fbfaf7",
        "footer-key-foreground": "#0b665f",
        "screen-selection-background": "#0f766e 25%",
    },
)

ANSI = Theme(
    name="stretch-ansi",
    ansi=True,
    primary="ansi_cyan",
    secondary="ansi_blue",
    accent="ansi_cyan",
    success="ansi_cyan",
    warning="ansi_yellow",
    error="ansi_red",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    dark=True,
    variables={
        "ansi-background": "ansi_default",
        "ansi-foreground": "ansi_default",
        "text-muted": "ansi_bright_black",
        "text-disabled": "ansi_bright_black",
        "border": "ansi_bright_black",
        "border-blurred": "ansi_bright_black",
        "block-cursor-background": "ansi_cyan",
        "block-cursor-foreground": "ansi_black",
        "block-cursor-text-style": "none",
        "input-cursor-text-style": "reverse",
        "input-selection-background": "ansi_cyan",
        "input-selection-foreground": "ansi_black",
        "scrollbar": "ansi_bright_black",
        "scrollbar-hover": "ansi_bright_black",
        "scrollbar-active": "ansi_cyan",
        "scrollbar-background": "ansi_default",
        "scrollbar-background-hover": "ansi_default",
        "scrollbar-background-active": "ansi_default",
        "footer-key-foreground": "ansi_cyan",
        "screen-selection-background": "ansi_cyan",
        "screen-selection-foreground": "ansi_black",
    },
)
"""The terminal's own sixteen colours, on its own background."""

THEMES = (DARK, LIGHT, ANSI)

AUTOMATIC = "stretch"
"""Not a theme: lets the program choose between its own."""


def choose(wanted: str, available: Container[str], color_system: str | None) -> str:
    """The theme for the settings' ``wanted`` in a terminal that can show so many colours.

    Args:
        color_system: As Rich calls it: ``truecolor``, ``256``, ``standard`` or None.
    """
    if wanted != AUTOMATIC and wanted in available:
        return wanted
    return ANSI.name if color_system == "standard" else DARK.name
