"""One list of models: on this computer first, then whatever other sources there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.worker import get_current_worker

from app import paths
from app.chat.format import clip_middle, fit, percent, size
from app.chat.messages import ModelWanted
from app.chat.panel import bars
from app.chat.panel.bars import Line, Piece
from app.chat.panel.glyphs import Glyphs
from app.chat.panel.lines import sides
from app.chat.screens.dialog import Dialog
from app.chat.screens.model_rows import LocalSource, ModelRow, ModelSource
from app.chat.screens.row_list import Draw, Row
from app.chat.screens.search_dialog import SearchDialog, message_row
from app.plain_text import one_line
from models.memory import memory

if TYPE_CHECKING:
    from app.chat.session import Session


class ModelPicker(SearchDialog):
    """Every source fills its group of the list from a thread of its own."""

    @dataclass
    class Found(Message):
        """A source knows more about a model; None when it has said everything."""

        index: int
        query: str
        row: ModelRow | None

    CSS_PATH = Dialog.sheets("model_picker.tcss")
    HEADING = "Models"
    PLACEHOLDER = "Filter, or the path of a .gguf file or of a folder"

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "load")]

    def __init__(self, session: Session, sources: Sequence[ModelSource] | None = None) -> None:
        super().__init__()
        self._session = session
        self._sources = list(sources) if sources is not None else [self._local_source()]
        self._found: list[dict[str, ModelRow]] = [{} for _ in self._sources]
        self._query: str | None = None
        self._left = 0
        self._placed = ""
        """The row that the cursor was put on; on another one the person has put it."""

    def _local_source(self) -> ModelSource:
        return LocalSource(paths.models_dir(), self._session.settings.model_folders, self._budget)

    def _budget(self) -> int:
        """What a model may take: what is available, and what the present one gives back."""
        status = self._session.status
        held = max(0, status.memory.rss - status.memory.weights_mapped) if status else 0
        return memory().available + held

    # ---------------------------------------------------------------- finding

    def search(self, query: str) -> None:
        self._query = query
        self._found = [{} for _ in self._sources]
        self._left = len(self._sources)
        self._placed = self.rows.cursor_key
        for index in range(len(self._sources)):
            self._read(index, query)

    def _read(self, index: int, query: str) -> None:
        self.run_worker(
            lambda: self._read_in_thread(index, query), thread=True, exclusive=True, group=f"source-{index}"
        )

    def _read_in_thread(self, index: int, query: str) -> None:
        worker = get_current_worker()
        for row in self._sources[index].rows(query):
            if worker.is_cancelled:
                return
            self.post_message(self.Found(index, query, row))
        self.post_message(self.Found(index, query, None))

    def on_model_picker_found(self, message: Found) -> None:
        if message.query != self.query_text:
            return
        if message.row is None:
            self._left -= 1
        else:
            self._found[message.index][message.row.name] = message.row
        self._show()

    def update_row(self, index: int, row: ModelRow) -> None:
        """Take news about a row of a source: the progress of a download."""
        if row.name in self._found[index]:
            self._found[index][row.name] = row
            self._show()

    @property
    def looking(self) -> bool:
        """Whether a source has not yet said everything about what is typed."""
        return self._left > 0 or self._query != self.query_text

    @property
    def found(self) -> list[ModelRow]:
        """All rows that are shown, in their order."""
        return [row for index in range(len(self._sources)) for row in self._group(index)]

    def _group(self, index: int) -> list[ModelRow]:
        group = self._found[index].values()
        if self._sources[index].searches:
            return list(group)
        words = self.query_text.lower().split()
        return [r for r in group if all(w in f"{r.title} {r.where}".lower() for w in words)]

    def _show(self) -> None:
        rows: list[Row] = []
        current = self._current_name()
        for index, source in enumerate(self._sources):
            group = self._group(index)
            if group:
                rows.append(_heading(source.heading, first=not rows))
                rows += [Row(row.name, self._draw(row, row.name == current), 2) for row in group]
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

    def _current_name(self) -> str | None:
        loaded = self._session.loaded
        if loaded is None:
            return None
        names = (self._session.model, loaded.model.path)
        return next((row.name for row in self.found if row.name in names), None)

    # ---------------------------------------------------------------- choosing

    def choose(self, key: str) -> None:
        for index, source in enumerate(self._sources):
            row = self._found[index].get(key)
            if row is None:
                continue
            if not row.runnable:
                self.app.bell()
            elif (name := source.choose(row)) is not None:
                self.wish(ModelWanted(name))
            return

    # ---------------------------------------------------------------- drawing

    def _draw(self, row: ModelRow, current: bool) -> Draw:
        return lambda width: draw_model(row, width, self.rows.glyphs, current)


def draw_model(row: ModelRow, width: int, g: Glyphs, current: bool) -> Sequence[Line]:
    """Two lines: name and size; the verdict, or the progress of the download, and where it is."""
    title = clip_middle(one_line(row.title), max(8, width - 3 - 11))
    style = "current" if current else "value" if row.runnable else "faint"
    top = sides(
        (Piece(f" {g.mark if current else ' '} ", "current"), Piece(title, style)),
        (Piece(fit(size(row.size) if row.size else "", 10, ">"), "muted"), Piece(" ")),
        width,
    )
    if row.progress is not None:
        share = f" {percent(row.progress, 1.0):>4} "
        bar = bars.thin_bar(row.progress, max(4, width - 3 - len(share)), "cache", g)
        return [top, (Piece("   "), *bar, Piece(share, "current"))]
    said = one_line(row.reason or row.verdict) or "reading its header ..."
    tone = "warning" if row.reason else "muted" if row.verdict else "faint"
    facts = [one_line(text, 40) for text in (row.license, row.where) if text]
    left = fit(said, max(10, min(len(said), width - 4))).rstrip()
    room = width - 4 - len(left) - 3
    end = clip_middle(f" {g.dot} ".join(facts), room) if room >= 8 else ""
    return [top, sides((Piece("   "), Piece(left, tone)), (Piece(end, "faint"), Piece(" ")), width)]


def _heading(text: str, first: bool) -> Row:
    def draw(width: int) -> Sequence[Line]:
        line = (Piece(fit(f" {text}", width), "title"),)
        return [line] if first else [(Piece(" "),), line]

    return Row(f"heading {text}", draw, 1 if first else 2, selectable=False)
