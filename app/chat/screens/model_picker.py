"""One list of models: what is on its way, what is here, what is worth trying, what the hub finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer
from textual.worker import get_current_worker

from app.chat.format import clip, clip_middle, fit, percent, size
from app.chat.messages import ModelWanted
from app.chat.panel import bars
from app.chat.panel.bars import Line, Piece
from app.chat.panel.glyphs import Glyphs
from app.chat.panel.lines import sides
from app.chat.screens.ask import Choice, Choose
from app.chat.screens.dialog import Dialog
from app.chat.screens.hub_rows import CatalogSource, HubSource, job_row
from app.chat.screens.key_hints import KeyHints
from app.chat.screens.model_rows import LocalSource, ModelRow, ModelSource
from app.chat.screens.row_list import Draw, Row, RowList, heading
from app.chat.screens.search_dialog import SearchDialog, message_row
from app.plain_text import one_line
from models.hub.downloads import RUNNING, Job
from models.memory import memory
from quantize.errors import StretchError

if TYPE_CHECKING:
    from app.chat.session import Session

TYPING_PAUSE_S = 0.4
"""The hub is asked when nothing was typed for so long."""

ASK_FROM_BYTES = 64 << 20
"""Cancelling a download that has got further is asked about."""


class ModelPicker(SearchDialog):
    """Every source fills its group of the list from a thread of its own."""

    @dataclass
    class Found(Message):
        """A source knows more about a model; None when it has said everything."""

        index: int
        query: str
        row: ModelRow | None
        problem: str = ""
        """Why it could say nothing, or empty."""

    CSS_PATH = Dialog.sheets("model_picker.tcss")
    HEADING = "Models"
    PLACEHOLDER = "Filter and search the hub, or the path of a file or folder"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "load"),
        Binding("ctrl+x", "cancel", "cancel", show=False, priority=True),
    ]

    def __init__(self, session: Session, sources: Sequence[ModelSource] | None = None) -> None:
        super().__init__()
        self._session = session
        self._desk = session.downloads
        self._sources = list(sources) if sources is not None else self._all_sources()
        self._found: list[dict[str, ModelRow]] = [{} for _ in self._sources]
        self._query: str | None = None
        self._unread: set[int] = set()
        """Sources that have not said everything about the query."""
        self._problems: dict[int, str] = {}
        self._pause: Timer | None = None
        self._placed = ""
        """The row that the cursor was put on; on another one the person has put it."""

    def on_mount(self) -> None:
        self.set_interval(0.5, self._refresh_jobs)  # a server that falls silent sends no news

    def _refresh_jobs(self) -> None:
        if any(job.state in RUNNING for job in self._desk.jobs):
            self._show()

    def _all_sources(self) -> list[ModelSource]:
        folders = self._session.settings.model_folders
        return [
            LocalSource(self._desk.own, folders, self._budget),
            CatalogSource(self._desk, self._budget),
            HubSource(self._desk),
        ]

    def _budget(self) -> int:
        """What a model may take: what is available, and what the present one gives back."""
        status = self._session.status
        held = max(0, status.memory.rss - status.memory.weights_mapped) if status else 0
        return memory().available + held

    # ---------------------------------------------------------------- finding

    def search(self, query: str) -> None:
        self._query = query
        self._problems = {}
        self._unread = set(range(len(self._sources)))
        self._placed = self.rows.cursor_key
        if self._pause is not None:
            self._pause.stop()
        asking = [i for i, source in enumerate(self._sources) if source.asks_hub]
        for index in range(len(self._sources)):
            self._found[index] = {}
            if index not in asking:
                self._read(index, query)
        if asking:
            self._pause = self.set_timer(TYPING_PAUSE_S, partial(self._read_all, asking, query))

    def _read_all(self, indices: Sequence[int], query: str) -> None:
        for index in indices:
            self._read(index, query)

    def _read(self, index: int, query: str) -> None:
        self._unread.add(index)
        self.run_worker(
            lambda: self._read_in_thread(index, query), thread=True, exclusive=True, group=f"source-{index}"
        )

    def _read_in_thread(self, index: int, query: str) -> None:
        worker = get_current_worker()
        try:
            for row in self._sources[index].rows(query):
                if worker.is_cancelled:
                    return
                self.post_message(self.Found(index, query, row))
            self.post_message(self.Found(index, query, None))
        except StretchError as error:
            self.post_message(self.Found(index, query, None, str(error)))

    def on_model_picker_found(self, message: Found) -> None:
        if message.query != self.query_text:
            return
        if message.row is None:
            self._unread.discard(message.index)
            if message.problem:
                self._problems[message.index] = message.problem
        else:
            self._found[message.index][message.row.name] = message.row
        self._show()

    def show_downloads(self, done: bool) -> None:
        """A download has got further; ``done`` if a model is here now that was not before."""
        if done:
            for index, source in enumerate(self._sources):
                if not source.asks_hub:
                    self._found[index] = {}
                    self._read(index, self.query_text)
        self._show()

    @property
    def looking(self) -> bool:
        """Whether a source has not yet said everything about what is typed."""
        return bool(self._unread) or self._query != self.query_text

    @property
    def found(self) -> list[ModelRow]:
        """All rows that are shown, in their order."""
        groups = (self._group(index) for index in range(len(self._sources)))
        return [*self._jobs(), *(row for group in groups for row in group)]

    def _jobs(self) -> list[ModelRow]:
        return [job_row(job) for job in self._desk.jobs]

    def _group(self, index: int) -> list[ModelRow]:
        busy = {job.name for job in self._desk.jobs}
        group = [row for row in self._found[index].values() if row.name not in busy]
        if self._sources[index].searches:
            return group
        words = self.query_text.lower().split()
        return [r for r in group if all(w in f"{r.title} {r.where} {r.name}".lower() for w in words)]

    def _show(self) -> None:
        rows: list[Row] = []
        current = self._current_name()
        jobs = self._jobs()
        if jobs:
            rows.append(heading("Downloads", first=True))
            rows += [Row(row.name, self._draw(row, False), 2) for row in jobs]
        for index, source in enumerate(self._sources):
            group = self._group(index)
            problem = self._problems.get(index, "")
            if group or problem:
                rows.append(heading(source.heading, first=not rows))
                rows += [Row(row.name, self._draw(row, row.name == current), 2) for row in group]
            if problem:
                rows.append(message_row(one_line(problem)))
        if not rows:
            words = f"Nothing is called {one_line(self.query_text, 40)!r}." if self.query_text.strip() else ""
            rows = [message_row("Looking ..." if self.looking else words or "There are no models.")]
        # The sources answer in any order: until the person moves, the cursor stays at the beginning.
        moved = self.rows.cursor_key not in ("", self._placed)
        first = next((row.key for row in rows if row.selectable), "")
        start = current if current is not None and not self.query_text else first
        self.rows.set_rows(rows, None if moved else start)
        if not moved:
            self._placed = self.rows.cursor_key
        self._hint()

    def _current_name(self) -> str | None:
        loaded = self._session.loaded
        if loaded is None:
            return None
        names = (self._session.model, loaded.model.path)
        return next((row.name for row in self.found if row.name in names), None)

    # ---------------------------------------------------------------- choosing

    def choose(self, key: str) -> None:
        job = self._desk.job(key)
        if job is not None:
            self._desk.toggle(job)
            self._show()
            return
        for index, source in enumerate(self._sources):
            row = self._found[index].get(key)
            if row is None:
                continue
            if not row.runnable:
                self.app.bell()
            elif row.repo:
                self._look_into(row.repo)
            elif (name := source.choose(row)) is not None:
                self._load(name)
            else:
                self._show()
            return

    def _look_into(self, repo: str) -> None:
        from app.chat.screens.repo_screen import RepoScreen

        self.app.push_screen(
            RepoScreen(self._desk, repo, self._budget, self._load), lambda _nothing: self._show()
        )

    def _load(self, name: str) -> None:
        self.wish(ModelWanted(name))

    def action_cancel(self) -> None:
        """End the download under the cursor; ask first where much would be lost."""
        job = self._desk.job(self.rows.cursor_key)
        if job is None:
            self.app.bell()
            return
        if job.done < ASK_FROM_BYTES:
            self._cancel(job)
            return
        choices = [Choice("keep", "Keep it"), Choice("remove", "Remove it", f"{size(job.done)} are lost")]
        heading = f"Cancel the download of {job.model.path}?"
        self.app.push_screen(
            Choose(heading, choices), lambda answer: self._cancel(job) if answer == "remove" else None
        )

    def _cancel(self, job: Job) -> None:
        self._desk.cancel(job)
        self._show()

    @on(RowList.Moved)
    def _moved(self, event: RowList.Moved) -> None:
        event.stop()
        self._hint()

    def _hint(self) -> None:
        """Say what the keys do for the row under the cursor."""
        key = self.rows.cursor_key
        job = self._desk.job(key)
        if job is not None:
            word = "go on" if job.state in ("paused", "failed") else "pause"
            shown = [Binding("enter", "choose", word), Binding("ctrl+x", "cancel", "cancel")]
        else:
            row = next((row for row in self.found if row.name == key), None)
            word = (
                "look inside" if row and row.repo else "download" if row and self._is_remote(key) else "load"
            )
            shown = [Binding("enter", "choose", word)]
        self.query_one(KeyHints).show([*shown, self.hints()[-1]])

    def _is_remote(self, key: str) -> bool:
        places = enumerate(self._sources)
        return any(isinstance(source, CatalogSource) and key in self._found[i] for i, source in places)

    # ---------------------------------------------------------------- drawing

    def _draw(self, row: ModelRow, current: bool) -> Draw:
        return lambda width: draw_model(row, width, self.rows.glyphs, current)


def draw_model(row: ModelRow, width: int, g: Glyphs, current: bool) -> Sequence[Line]:
    """Two lines: name and size; the verdict, or the progress of the download, and where it is."""
    title = clip_middle(one_line(row.title), max(8, width - 3 - 11))
    style = "current" if current else "value" if row.runnable else "faint"
    room = width - 3 - cell_len(title) - 14
    about = f"  {clip(one_line(row.about), room)}" if row.about and room >= 20 else ""
    top = sides(
        (Piece(f" {g.mark if current else ' '} ", "current"), Piece(title, style), Piece(about, "faint")),
        (Piece(fit(size(row.size) if row.size else "", 10, ">"), "muted"), Piece(" ")),
        width,
    )
    if row.progress is not None:
        share = f" {percent(row.progress, 1.0):>4} "
        status = f" {one_line(row.status, 40)}" if row.status and width >= 40 else ""
        bar = bars.thin_bar(row.progress, max(4, width - 3 - len(share) - len(status)), "cache", g)
        return [top, (Piece("   "), *bar, Piece(share, "current"), Piece(status, "muted"))]
    said = one_line(row.reason or row.verdict) or "reading its header ..."
    tone = "warning" if row.reason else "muted" if row.verdict else "faint"
    facts = [one_line(text) for text in (row.license, row.where) if text]
    left = fit(said, max(10, min(len(said), width - 4))).rstrip()
    room = width - 4 - len(left) - 3
    cut = clip_middle if "/" in row.where else clip  # the end of a path matters, that of a sentence does not
    end = cut(f" {g.dot} ".join(facts), room) if room >= 8 else ""
    return [top, sides((Piece("   "), Piece(left, tone)), (Piece(end, "faint"), Piece(" ")), width)]
