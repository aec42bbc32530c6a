"""What a model thinks before it answers: one line that opens."""

from __future__ import annotations

import re
from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from app.chat.markdown.blocks import Block, Paragraph, parse
from app.chat.markdown.layout import MUTED
from app.chat.markdown.live_text import LiveText
from app.chat.markdown.passage import Passage
from app.chat.transcript.one_line import OneLine

_OPEN, _CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class SplitText:
    """A reply in its two parts."""

    thinking: str
    answer: str
    open: bool
    """The model is still thinking."""
    undecided: bool = False
    """Too little has arrived to tell: it may be the beginning of a tag."""


def split_thinking(text: str) -> SplitText:
    """Take the thinking from the beginning of a reply.

    Only there: a model that writes about the tag later on is not thinking.
    """
    start = text.lstrip()
    if not start.startswith(_OPEN):
        return SplitText("", text, False, undecided=_OPEN.startswith(start) and len(start) < len(_OPEN))
    body = start[len(_OPEN) :]
    thinking, closed, answer = body.partition(_CLOSE)
    if not closed:
        for n in range(len(_CLOSE) - 1, 0, -1):
            if thinking.endswith(_CLOSE[:n]):
                thinking = thinking[:-n]
                break
        return SplitText(thinking.strip("\n"), "", True)
    return SplitText(thinking.strip("\n"), answer.lstrip("\n"), False)


def without_thinking(text: str) -> str:
    """The answer alone, for the clipboard and for files."""
    return split_thinking(text).answer


class Thinking(Vertical):
    """A line that says how long the model thought, and the text behind it."""

    DEFAULT_CSS = """
    Thinking { height: auto; }
    Thinking > Passage { display: none; color: $text-muted; padding-left: 2; }
    Thinking.-open > Passage { display: block; }
    """

    def __init__(self, *, open: bool = False) -> None:
        super().__init__(classes="-open" if open else "")
        self._head = OneLine()
        self._body = Passage()
        self._text = ""
        self._live: LiveText | None = None
        self._still = False

    def compose(self) -> ComposeResult:
        yield self._head
        yield self._body

    def show(self, text: str, *, still: bool) -> None:
        """Show the thinking so far; ``still`` while the model goes on with it."""
        self._still = still
        if text != self._text:
            if still and text.startswith(self._text):
                self._live = self._live or LiveText()
                self._live.append(text[len(self._text) :])
                keep = max(0, self._body.n_blocks - 1)
                self._body.show(self._live.blocks, keep=min(keep, len(self._live.final)))
            else:
                self._body.show(_blocks(text))
            self._text = text
        self._draw_head()

    def toggle(self) -> None:
        """Open or fold."""
        self.toggle_class("-open")
        self._draw_head()

    def _draw_head(self) -> None:
        n = len(re.findall(r"\S+", self._text))
        words = f"{n:,} word" + ("" if n == 1 else "s")
        said = f"thinking, {words} so far" if self._still else f"thought for {words}"
        mark = "▾" if self.has_class("-open") else "▸"
        self._head.show(Content.styled(f"{mark} {said}", MUTED))

    def on_mount(self) -> None:
        self._draw_head()

    def on_click(self, event: events.Click) -> None:
        if event.widget is self._head:
            event.stop()
            self.toggle()


def _blocks(text: str) -> list[Block]:
    return parse(text) or [Paragraph(Content(""))]
