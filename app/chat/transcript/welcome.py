"""What an empty page says."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

_TEXT = Content.assemble(
    ("Stretch", "bold $text-primary"),
    "\n\n",
    "Talk with a model on this computer.\nNothing that is said here leaves it.\n\n",
    ("enter", "bold $text-primary"),
    ("  send          ", "$text-muted"),
    ("/", "bold $text-primary"),
    ("  commands\n", "$text-muted"),
    ("@", "bold $text-primary"),
    ("      attach a file ", "$text-muted"),
    ("F1", "bold $text-primary"),
    (" all keys", "$text-muted"),
)


class Welcome(Static):
    """A few words in the middle of an empty page."""

    DEFAULT_CSS = """
    Welcome { width: 1fr; height: auto; padding: 2 4; color: $text; }
    """

    def __init__(self) -> None:
        super().__init__(_TEXT, markup=False)
