"""The two themes of Stretch's own.

One accent colour, called ``$primary`` (``$text-primary`` for text), marks what is current.
``$warning`` (amber) and ``$error`` (red) are kept for memory and context running out and for
what failed. Style sheets that follow this rule look right in Textual's own themes as well.
"""

from __future__ import annotations

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

THEMES = (DARK, LIGHT)
DEFAULT_THEME = DARK.name
