"""The page itself: the newest turns are widgets, older ones come when they are scrolled to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.layout import DockArrangeResult
from textual.scrollbar import ScrollBar
from textual.widget import Widget

from app.chat.format import count
from app.chat.messages import Notice
from app.chat.transcript.entry import Entry, common_beginning, entries_of
from app.chat.transcript.full_choice import FullChoice
from app.chat.transcript.notice_line import NoticeLine
from app.chat.transcript.one_line import OneLine
from app.chat.transcript.reply_turn import ReplyTurn
from app.chat.transcript.turn import Turn, UserTurn
from app.chat.transcript.welcome import Welcome
from app.engine.protocol import ContextFull, PrefillProgress
from app.store.records import Message

FIRST = 16
"""Entries that are made into widgets at once."""
MORE = 16
"""Entries that are added when the view comes near an end of what is there."""
MOST = 64
"""Entries that stay widgets; beyond that the end farthest from the view is taken away."""
NEAR = 6
"""Rows from an end of what is there at which more is added."""


class Transcript(VerticalScroll, can_focus=False):
    """Holds every entry, shows a window of them, and keeps what the eye is on in its place.

    The position is a widget and a distance, not a number of rows: while the end is shown the
    page follows it, else the topmost visible turn stays where it is whatever happens around it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home", "oldest", "First message", show=False),
        Binding("end", "newest", "Last message", show=False),
    ]

    DEFAULT_CSS = """
    Transcript { height: 1fr; scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
    """

    def __init__(self, *, id: str = "transcript") -> None:
        super().__init__(id=id)
        self.entries: list[Entry] = []
        self.speaker = ""
        self.thinking = "folded"
        self.keys: Mapping[str, str] = {}
        self._from = 0
        self._to = 0
        self._follow = True
        self._held: tuple[Widget, int] | None = None
        self._changing = asyncio.Lock()
        self._earlier = OneLine(classes="earlier")
        self._welcome = Welcome()

    def compose(self) -> list[Widget]:
        return [self._earlier, self._welcome]

    # ---------------------------------------------------------------- another conversation

    async def show(self, messages: Sequence[Message], *, seen_from: int = 0, scroll_to: int = 0) -> None:
        """Show a conversation from its end, or around the message ``scroll_to``.

        What it has in common with the one that is shown stays as it is, quiet lines included:
        another branch of the same conversation changes only what differs.
        """
        entries = entries_of(messages, seen_from)
        async with self._changing:
            kept = common_beginning(self.entries, entries)
            place = next((n for n, e in enumerate(entries) if scroll_to and e.id == scroll_to), None)
            seen = place is None or place >= self._from
            if seen and self._from < kept <= self._to:
                await self._replace_after(kept, entries)
            else:
                self.entries = entries
                await self._rebuild(place)
        self._welcome.display = not any(entry.message for entry in self.entries)
        if scroll_to and (turn := self.turn(scroll_to)) is not None:
            self._follow = self._to >= len(self.entries) and turn is self._last_turn
            self._hold(turn, 1)
            turn.add_class("-found")
            self.refresh(layout=True)

    async def _replace_after(self, kept: int, entries: Sequence[Entry]) -> None:
        shown = self._shown
        n_said = sum(1 for entry in self.entries[:kept] if entry.notice is None)
        for entry, fresh in zip([e for e in self.entries[:kept] if e.notice is None], entries, strict=False):
            if fresh.message is not None and fresh.message != entry.message:
                await self._refresh_entry(entry, fresh.message)
        with self.app.batch_update():
            await self.remove_children(shown[kept - self._from :])
            self.entries = [*self.entries[:kept], *entries[n_said:]]
            self._to = len(self.entries)
            await self.mount_all(self._widgets(kept, self._to), before=self._choice)
            self._follow, self._held = True, None

    async def _refresh_entry(self, entry: Entry, message: Message) -> None:
        entry.message, entry.text = message, ""
        turn = self.turn(message.id)
        if isinstance(turn, ReplyTurn):
            await turn.show_message(message)
        elif isinstance(turn, UserTurn):
            turn.show_message(message)

    @property
    def _shown(self) -> list[Widget]:
        """The widgets of the entries within the window."""
        return [w for w in self.children if w not in (self._earlier, self._welcome, self._choice)]

    @property
    def _last_turn(self) -> Turn | None:
        return next((w for w in reversed(self.children) if isinstance(w, Turn)), None)

    async def _rebuild(self, around: int | None = None) -> None:
        """Make the window anew: the end, or a stretch around one entry."""
        n = len(self.entries)
        if around is None:
            self._from, self._to = max(0, n - FIRST), n
        else:
            self._from, self._to = max(0, around - FIRST // 2), min(n, around + FIRST)
        self._follow, self._held = around is None, None
        keep = (self._earlier, self._welcome)
        with self.app.batch_update():
            await self.remove_children([w for w in self.children if w not in keep])
            await self.mount_all(self._widgets(self._from, self._to))
            self._show_earlier()

    def _widgets(self, start: int, end: int) -> list[Widget]:
        return [self._widget(entry) for entry in self.entries[start:end]]

    def _widget(self, entry: Entry) -> Widget:
        if entry.message is None:
            return (
                NoticeLine(entry.notice, self.keys)
                if entry.notice
                else OneLine(entry.divider, classes="divider")
            )
        if entry.message.role == "user":
            return UserTurn(entry.message)
        turn = ReplyTurn(entry.message, self.speaker, thinking=self.thinking, keys=self.keys)
        if entry.text:
            turn.append(entry.text)
        return turn

    def _show_earlier(self) -> None:
        n = sum(1 for entry in self.entries[: self._from] if entry.message is not None)
        self._earlier.show(f"↑ {count(n)} earlier message" + ("" if n == 1 else "s") if n else "")

    # ---------------------------------------------------------------- one more entry

    async def add_message(self, message: Message) -> None:
        """A message at the end; the view goes there."""
        if self._place(message.id) is None:
            await self._add(Entry(message=message), go_there=True)

    async def add_notice(self, notice: Notice) -> None:
        """A quiet line at the end; the view stays where it is."""
        await self._add(Entry(notice=notice))

    async def _add(self, entry: Entry, *, go_there: bool = False) -> None:
        async with self._changing:
            self.entries.append(entry)
            self._welcome.display = entry.message is None and self._welcome.display
            at_end = self._to == len(self.entries) - 1
            if at_end:
                self._to += 1
                choice = self._choice
                await self.mount(self._widget(entry), before=choice)
                if go_there:
                    self._follow = True
                await self._trim(oldest=True)
            elif go_there:
                await self._rebuild()

    async def show_choice(self, full: ContextFull) -> FullChoice:
        """Ask, at the end of the page, what to do about a full context."""
        await self.remove_choice()
        if self._to < len(self.entries):
            async with self._changing:
                await self._rebuild()
        choice = FullChoice(full)
        self._follow = True
        await self.mount(choice)
        self.call_after_refresh(self.on_full_choice_moved)
        return choice

    def on_resize(self) -> None:
        self.call_after_refresh(self.on_full_choice_moved)

    def on_full_choice_moved(self) -> None:
        """Where the question is longer than the page, show its beginning and then what is marked."""
        choice = self._choice
        if choice is None or choice.virtual_region.height <= self.size.height:
            return
        top, y = choice.virtual_region.y, round(self.scroll_y)
        first, last = choice.marked
        y = min(max(y, top + last + 1 - self.size.height), top + first)
        self._follow = False
        self._hold(choice, top - y)
        self.refresh(layout=True)

    async def remove_choice(self) -> None:
        """The question is answered."""
        if (choice := self._choice) is not None:
            self._follow, self._held = True, None
            await choice.remove()

    @property
    def replies(self) -> list[str]:
        """The texts of all replies, the oldest first, whether a widget shows them or not."""
        texts = [e.message.content or e.text for e in self.entries if e.message and e.message.role != "user"]
        return [text for text in texts if text]

    @property
    def _choice(self) -> FullChoice | None:
        return next((w for w in self.children if isinstance(w, FullChoice)), None)

    # ---------------------------------------------------------------- the reply that is written

    def turn(self, message_id: int) -> Turn | None:
        """The widget of a message, if it is within the window."""
        found = self.query_children(f"#turn-{message_id}")
        return found.first(Turn) if found else None

    def append(self, message_id: int, text: str) -> None:
        """More of a reply."""
        place = self._place(message_id)
        if place is not None:
            self.entries[place].text += text
        if isinstance(turn := self.turn(message_id), ReplyTurn):
            turn.append(text)

    def show_progress(self, message_id: int, progress: PrefillProgress) -> None:
        """The prompt of a reply is being read."""
        if isinstance(turn := self.turn(message_id), ReplyTurn):
            turn.show_progress(progress)

    def show_waiting(self, message_id: int, why: str) -> None:
        """A reply waits for the engine."""
        if isinstance(turn := self.turn(message_id), ReplyTurn):
            turn.show_waiting(why)

    def show_speaker(self, speaker: str) -> None:
        """Another model speaks from now on."""
        self.speaker = speaker
        for turn in self.query_children(ReplyTurn):
            turn.show_speaker(speaker)

    async def update_message(self, message: Message) -> None:
        """A message is complete or changed."""
        place = self._place(message.id)
        if place is None:
            return
        await self._refresh_entry(self.entries[place], message)

    async def remove_message(self, message_id: int) -> None:
        """A reply left no trace."""
        place = self._place(message_id)
        if place is None:
            return
        async with self._changing:
            del self.entries[place]
            if place < self._from:
                self._from -= 1
            if place < self._to:
                self._to -= 1
            if (turn := self.turn(message_id)) is not None:
                await turn.remove()

    def _place(self, message_id: int) -> int | None:
        for n in range(len(self.entries) - 1, -1, -1):
            if self.entries[n].id == message_id:
                return n
        return None

    # ---------------------------------------------------------------- the window

    async def _older(self) -> None:
        if self._changing.locked() or not self._from:
            return
        async with self._changing:
            start = max(0, self._from - MORE)
            self._hold_top()
            with self.app.batch_update():
                await self.mount_all(self._widgets(start, self._from), after=self._welcome)
                self._from = start
                self._show_earlier()
                await self._trim(oldest=False)

    async def _newer(self) -> None:
        if self._changing.locked() or self._to >= len(self.entries):
            return
        async with self._changing:
            end = min(len(self.entries), self._to + MORE)
            self._hold_top()
            with self.app.batch_update():
                await self.mount_all(self._widgets(self._to, end))
                self._to = end
                await self._trim(oldest=True)

    async def _trim(self, *, oldest: bool) -> None:
        """Take widgets away at the end that the view is not near."""
        excess = self._to - self._from - MOST
        if excess <= 0 or (
            oldest and not self._follow and self._held is not None and self.scroll_y < self.size.height
        ):
            return
        shown = self._shown
        gone = shown[:excess] if oldest else shown[-excess:]
        if any(w.has_focus_within or w.has_focus for w in gone):
            return
        if oldest:
            self._from += excess
        else:
            self._to -= excess
        await self.remove_children(gone)
        self._show_earlier()

    # ---------------------------------------------------------------- the position

    @property
    def follows(self) -> bool:
        """Whether the page stays at its end while it grows."""
        return self._follow

    def follow(self) -> None:
        """Go to the end and stay there."""
        self.call_later(self.action_newest)

    async def action_newest(self) -> None:
        """Go to the last message."""
        if self._to < len(self.entries):
            async with self._changing:
                await self._rebuild()
        self._follow, self._held = True, None
        self.refresh(layout=True)

    async def action_oldest(self) -> None:
        """Go to the first message."""
        if self._from:
            async with self._changing:
                await self._rebuild(0)
        self._follow, self._held = False, None
        self.scroll_home(animate=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        at_end = self._to >= len(self.entries)
        self._follow = at_end and new_value >= self.max_scroll_y
        if self._follow:
            self._held = None
        else:
            self._hold_top()
        if new_value <= NEAR and self._from:
            self.call_later(self._older)
        elif not at_end and new_value >= self.max_scroll_y - NEAR:
            self.call_later(self._newer)

    def _hold_top(self) -> None:
        """Remember the topmost turn that is visible and where it stands."""
        if self._follow:
            return
        for child in self.children:
            if not child.display or child is self._earlier:
                continue
            region = child.virtual_region
            if region.bottom > self.scroll_y:
                self._hold(child, region.y - round(self.scroll_y))
                return

    def _hold(self, widget: Widget, distance: int) -> None:
        self._held = (widget, distance)

    def arrange(self, size: Size, optimal: bool = False) -> DockArrangeResult:
        """Lay out, then move the view so that what is followed or held stays in its place."""
        result = super().arrange(size, optimal)
        if optimal:
            return result
        bottom = result.spatial_map.total_region.bottom
        y: int | None = None
        if self._follow:
            y = bottom - size.height
        elif self._held is not None:
            widget, distance = self._held
            y = next((p.region.y - distance for p in result.placements if p.widget is widget), None)
        if y is not None:
            y = max(0, min(y, bottom - size.height))
            self.set_scroll(None, y)
            self.set_reactive(Widget.scroll_target_y, y)
            self.vertical_scrollbar.set_reactive(ScrollBar.position, y)
        return result
