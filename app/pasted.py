"""What is pasted is text, whatever stands in it.

Textual reads an escape character within a paste as the beginning of a key: what follows is lost or typed
as keys, Enter among them, so a copied terminal log could send itself or leave the program. Terminals
differ in whether they take such characters out. So they are taken out before Textual reads them, and so is
what would reorder the text around it on the screen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from textual._xterm_parser import XTermParser
from textual.drivers import linux_driver
from textual.message import Message

from app.plain_text import BIDI

BEGIN, END = "\x1b[200~", "\x1b[201~"
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?")


class Pastes:
    """Passes input on and takes terminal sequences and marks of direction out of what is pasted."""

    def __init__(self) -> None:
        self._last = ""
        """The newest characters: where a paste begins or ends may arrive in two pieces."""
        self._paste: list[str] | None = None
        """What has come of a paste so far, None outside of one."""

    def clean(self, data: str) -> str:
        """The part of the input that can be read now. A paste is held back until it is complete."""
        out: list[str] = []
        while data:
            mark = BEGIN if self._paste is None else END
            joined = self._last + data
            place = joined.find(mark)
            upto = len(data) if place < 0 else place + len(mark) - len(self._last)
            (out if self._paste is None else self._paste).append(data[:upto])
            data = data[upto:]
            if place < 0:
                self._last = joined[1 - len(mark) :]
            elif self._paste is None:
                self._last, self._paste = "", []
            else:
                text = "".join(self._paste).removesuffix(END)
                out.append(_SEQUENCE.sub("", text).translate(BIDI) + END)
                self._last, self._paste = "", None
        return "".join(out)


class _Parser(XTermParser):
    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._pastes = Pastes()

    def feed(self, data: str) -> Iterable[Message]:
        if not data:  # the end of the input
            return super().feed(data)
        clean = self._pastes.clean(data)
        return super().feed(clean) if clean else ()


def read_pastes_as_text() -> None:
    """Let the application that starts next read its input so."""
    setattr(linux_driver, "XTermParser", _Parser)  # noqa: B010  (the driver has no other way to name one)
