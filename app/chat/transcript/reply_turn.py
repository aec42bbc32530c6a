"""What the model says: waited for, read towards, streamed, finished."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.timer import Timer

from app.chat.format import RATE_WIDTH, count, duration, rate
from app.chat.keys import key_name, key_of
from app.chat.markdown.blocks import Block, parse
from app.chat.markdown.layout import MUTED
from app.chat.markdown.live_text import LiveText
from app.chat.markdown.passage import Passage
from app.chat.messages import ContinueWanted, CopyWanted, RegenerateWanted
from app.chat.transcript.one_line import OneLine
from app.chat.transcript.thinking import Thinking, split_thinking, without_thinking
from app.chat.transcript.turn import Turn, TurnHead, branch_mark
from app.engine.protocol import PrefillProgress
from app.plain_text import one_line
from app.store.records import Message

DRAW_EVERY_S = 1 / 12
"""Least time between two drawings of a growing reply."""
DRAW_SHARE = 0.1
"""Most of one core that the interface takes while a reply grows: the model computes on the same cores.
What is written faster than anybody reads is drawn in larger steps."""
SLOWEST_S = 0.5
"""The most time between two drawings."""
BLOCKS_PER_PASSAGE = 24
BAR_WIDTH = 16
STOPS = "esc stops"


def progress_text(progress: PrefillProgress, width: int) -> Content:
    """``reading 2,048 of 9,812 tokens  ━━━━━━  412 t/s  about 19 s``; figures keep their width.

    The bar takes what the figures leave of ``width``, but not more than it needs to be read.
    """
    total = count(progress.n_total)
    done = count(progress.n_done).rjust(len(total))
    eta = f"about {duration(max(1.0, progress.eta_s))}" if progress.n_done else "..."
    before = f"reading {done} of {total} tokens  "
    after = f"  {rate(progress.tokens_per_second):>{RATE_WIDTH}} t/s  {eta}"
    bar = min(BAR_WIDTH, max(0, width - len(before) - len(after)))
    filled = round(bar * progress.n_done / max(1, progress.n_total))
    return Content.assemble(
        (before, MUTED), ("━" * filled, "$primary"), ("━" * (bar - filled), "$border-blurred"), (after, MUTED)
    )


def ending(message: Message, keys: Mapping[str, str]) -> str:
    """What stands under a reply that did not end by itself."""
    on, again = (key_name(key_of(command, keys)) for command in ("/continue", "/regenerate"))
    if message.figures.reason == "length":
        return f"cut at the longest reply allowed (max_tokens); {on} goes on"
    if message.state == "stopped" and not message.content:
        return f"no word of it was written; {on} begins it"
    if message.state == "stopped":
        return f"stopped here; {on} goes on, {again} writes it again"
    if message.state == "complete" and not message.content.strip():
        return f"the model ended without a word; {again} tries again"
    return ""


class ReplyTurn(Turn):
    """A reply. It grows by ``append`` and is drawn a dozen times per second at most."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "regenerate", "Again"),
        Binding("g", "go_on", "Go on", show=False),
        Binding("t,enter", "toggle_thinking", "Thinking", show=False),
    ]

    def __init__(
        self, message: Message, speaker: str, *, thinking: str = "folded", keys: Mapping[str, str]
    ) -> None:
        super().__init__(message)
        self._keys = keys
        self._speaker = speaker
        self._thinking_mode = thinking
        self._head = TurnHead(classes="head")
        self._foot = OneLine(classes="foot")
        self._thinking: Thinking | None = None
        self._passages: list[Passage] = []
        self._first_block = 0
        self._text = ""
        self._shown = 0
        self._live: LiveText | None = None
        self._timer: Timer | None = None
        self._pause = DRAW_EVERY_S
        self._spent = time.process_time()

    def compose(self) -> ComposeResult:
        yield self._head
        yield self._foot

    async def on_mount(self) -> None:
        self._draw_head()
        self._show_foot("")
        await self.show_message(self.message)

    # ---------------------------------------------------------------- complete

    async def show_message(self, message: Message) -> None:
        """Show the message as the store has it."""
        self.message = message
        self._stop_timer()
        if not self.is_attached:  # the program ends: nothing can be mounted any more
            return
        self._live = None
        self._text = message.content
        parts = split_thinking(message.content)
        await self._show_thinking(parts.thinking, still=False)
        blocks = parse(parts.answer)
        slices = [blocks[n : n + BLOCKS_PER_PASSAGE] for n in range(0, len(blocks), BLOCKS_PER_PASSAGE)]
        while len(self._passages) > len(slices):
            await self._passages.pop().remove()
        for n, part in enumerate(slices):
            if n < len(self._passages):
                self._passages[n].show(part)
                self._passages[n].caret = False
            else:
                await self._add_passage(part)
        self._draw_head()
        if message.state != "partial":
            self._show_foot(ending(message, self._keys))

    # ---------------------------------------------------------------- growing

    def show_waiting(self, why: str) -> None:
        """Nothing of the reply is there yet, and why."""
        self._show_foot(why)

    def show_progress(self, progress: PrefillProgress) -> None:
        """The prompt is being read."""
        width = self._foot.content_size.width - len(STOPS) - 2
        self._show_foot(progress_text(progress, width if width > 0 else 60), STOPS)

    def append(self, text: str) -> None:
        """More of the reply has arrived."""
        self._text += text
        if self._timer is None:
            self._timer = self.set_timer(self._pause, self.draw)

    async def draw(self) -> None:
        """Draw what has arrived since the last time."""
        self._stop_timer()
        if not self.is_attached:
            return
        self._take_breath()
        parts = split_thinking(self._text)
        if parts.undecided:
            return
        await self._show_thinking(parts.thinking, still=parts.open)
        if self._live is None:
            self._live, self._shown, self._first_block = LiveText(), 0, 0
            while len(self._passages) > 1:
                await self._passages.pop().remove()
        self._live.append(parts.answer[self._shown :])
        self._shown = len(parts.answer)
        if parts.answer:
            self._show_foot("")
            await self._show_live(self._live)

    def _take_breath(self) -> None:
        """Let the next drawing wait so long that this one and its painting stay within their share."""
        now = time.process_time()
        self._pause = min(SLOWEST_S, max(DRAW_EVERY_S, (now - self._spent) / DRAW_SHARE))
        self._spent = now

    async def _show_live(self, live: LiveText) -> None:
        blocks = live.blocks
        if not self._passages:
            await self._add_passage([])
        while len(blocks) - self._first_block > BLOCKS_PER_PASSAGE and len(live.final) > self._first_block:
            end = min(len(live.final), self._first_block + BLOCKS_PER_PASSAGE)
            self._passages[-1].show(blocks[self._first_block : end], keep=self._keep(live, end))
            self._passages[-1].caret = False
            self._first_block = end
            await self._add_passage([])
        last = self._passages[-1]
        last.caret = True
        last.show(blocks[self._first_block :], keep=self._keep(live, len(blocks)))

    def _keep(self, live: LiveText, end: int) -> int:
        """Blocks of the last passage that were final when it was drawn last."""
        drawn = self._passages[-1].n_blocks - 1
        return max(0, min(drawn, len(live.final) - self._first_block, end - self._first_block))

    # ---------------------------------------------------------------- pieces

    async def _add_passage(self, blocks: list[Block]) -> None:
        passage = Passage(blocks, classes="answer" if not self._passages else "answer -next")
        self._passages.append(passage)
        await self.mount(passage, before=self._foot)

    async def _show_thinking(self, text: str, *, still: bool) -> None:
        if self._thinking_mode == "hidden" or not (text or still):
            if self._thinking is not None:
                await self._thinking.remove()
                self._thinking = None
            return
        if self._thinking is None:
            self._thinking = Thinking(open=self._thinking_mode == "open")
            await self.mount(self._thinking, after=self._head)
        self._thinking.show(text, still=still)

    def show_speaker(self, speaker: str) -> None:
        """Another model has taken over; a reply that is complete keeps the name of its own."""
        self._speaker = speaker
        self._draw_head()

    def _draw_head(self) -> None:
        name = one_line(self.message.figures.model or self._speaker, 40) or "Model"
        self._head.show(Content.styled(name, "bold $text-primary"), branch_mark(self.message))

    def _show_foot(self, left: Content | str, right: str = "") -> None:
        self._foot.show(left, right)
        self._foot.display = bool(left)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    # ---------------------------------------------------------------- actions

    def action_copy(self) -> None:
        """Copy the reply without the thinking."""
        self.post_message(CopyWanted(without_thinking(self.message.content or self._text), "reply"))

    def action_edit(self) -> None:
        """A reply is not edited: it is written again."""
        self.action_regenerate()

    def action_regenerate(self) -> None:
        """Write it again."""
        self.post_message(RegenerateWanted(self.message.id))

    def action_go_on(self) -> None:
        """Let an unfinished reply go on."""
        self.post_message(ContinueWanted(self.message.id))

    def action_toggle_thinking(self) -> None:
        """Open or fold what the model thought."""
        if self._thinking is not None:
            self._thinking.toggle()
