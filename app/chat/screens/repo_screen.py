"""What a repository of the hub holds: every quantization with its verdict, the best one marked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.worker import get_current_worker

from app.chat.download_desk import DownloadDesk
from app.chat.format import clip_middle, fit, size
from app.chat.panel.bars import Line, Piece
from app.chat.panel.glyphs import Glyphs
from app.chat.panel.lines import sides
from app.chat.screens.dialog import Dialog
from app.chat.screens.row_list import Draw, Row, RowList
from app.chat.screens.search_dialog import message_row
from app.plain_text import one_line
from models.hub.files import HubModel, Repo
from models.hub.places import is_here, target_of
from models.local import tokens
from quantize.errors import StretchError

if TYPE_CHECKING:
    from models.hub.prospects import Prospect, Prospects


class RepoScreen(Dialog):
    """Judges in threads; a row is there at once, its verdict comes when its header was read.

    Args:
        budget: bytes that a model may take.
        load: called with the path of a model that is here already and was chosen.
    """

    @dataclass
    class Listed(Message):
        """The hub has said what is there."""

        repo: Repo

    @dataclass
    class Judged(Message):
        """One more verdict."""

        prospect: Prospect

    @dataclass
    class Ended(Message):
        """Nothing more will come; the error, if that is why."""

        problem: str = ""

    CSS_PATH = Dialog.sheets("repo_screen.tcss")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "download")]
    AUTO_FOCUS = "RowList"

    def __init__(
        self, desk: DownloadDesk, name: str, budget: Callable[[], int], load: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._desk, self._repo_name, self._budget, self._load = desk, name, budget, load
        self.rows = RowList(id="rows")
        self._repo: Repo | None = None
        self._prospects: dict[str, Prospect] = {}
        self._reader: Prospects | None = None
        self._problem = ""
        self.looking = True
        """Whether more is to come."""

    def body(self) -> Iterable[Widget]:
        yield self.rows

    def on_mount(self) -> None:
        self.query_one("#box").border_title = one_line(self._repo_name, 96)
        self._show()
        self.run_worker(self._read, thread=True, exclusive=True, group="repo")

    def on_unmount(self) -> None:
        if self._reader is not None:
            self._reader.stop()

    # ---------------------------------------------------------------- finding

    def _read(self) -> None:
        """In a thread: list, then read the headers."""
        from models.hub.control import Stopped
        from models.hub.prospects import Prospects

        worker = get_current_worker()
        try:
            hub = self._desk.hub()
            repo = hub.repo(self._repo_name)
            self.post_message(self.Listed(repo))
            with Prospects(hub, self._budget) as reader:
                self._reader = reader
                for prospect in reader.judge_all(repo):
                    if worker.is_cancelled:
                        return
                    self.post_message(self.Judged(prospect))
            self.post_message(self.Ended())
        except Stopped:
            return
        except StretchError as error:
            self.post_message(self.Ended(str(error)))

    def on_repo_screen_listed(self, message: Listed) -> None:
        self._repo = message.repo
        self._show()

    def on_repo_screen_judged(self, message: Judged) -> None:
        self._prospects[message.prospect.model.path] = message.prospect
        self._show()

    def on_repo_screen_ended(self, message: Ended) -> None:
        self.looking, self._problem = False, message.problem
        self._show()

    # ---------------------------------------------------------------- choosing

    @on(RowList.Chosen)
    def _chosen(self, event: RowList.Chosen) -> None:
        event.stop()
        repo = self._repo
        model = next((m for m in repo.models if m.path == event.key), None) if repo else None
        if repo is None or model is None:
            return
        if is_here(self._desk.own, repo.name, model):
            self.dismiss()
            self._load(str(target_of(self._desk.own, repo.name, model.path)))
            return
        prospect = self._prospects.get(model.path)
        if prospect is None or not prospect.verdict.runnable:
            self.app.bell()  # the row says why, or is still being looked at
            return
        self._desk.want(repo, model)
        self.dismiss()

    def action_choose(self) -> None:
        """Choose the row under the cursor."""
        self.rows.action_choose()

    # ---------------------------------------------------------------- drawing

    def _show(self) -> None:
        repo = self._repo
        if repo is None:
            self.rows.set_rows([message_row(one_line(self._problem) or "Asking the hub ...")])
            return
        best = self._best()
        rows = [Row(m.path, self._draw(m, m.path == best), 2) for m in repo.models]
        notes = [self._problem, *repo.refused] if self._problem or repo.refused else []
        rows += [message_row(one_line(note)) for note in notes if note]
        if not repo.models and not notes:
            rows = [message_row("There is no GGUF model in this repository.")]
        self.rows.set_rows(rows, best if best and not self.looking and not self._moved() else None)

    def _moved(self) -> bool:
        first = self._repo.models[0].path if self._repo and self._repo.models else ""
        return self.rows.cursor_key not in ("", first)

    def _best(self) -> str:
        """The path of the best one, when all are known."""
        if self.looking or not self._prospects:
            return ""
        from models.hub.prospects import best

        found = best(list(self._prospects.values()))
        return found.model.path if found else ""

    def _draw(self, model: HubModel, best: bool) -> Draw:
        repo = self._repo
        here = repo is not None and is_here(self._desk.own, repo.name, model)
        prospect = self._prospects.get(model.path)
        return lambda width: draw_quant(model, prospect, width, self.rows.glyphs, best=best, here=here)


def draw_quant(
    model: HubModel, prospect: Prospect | None, width: int, g: Glyphs, *, best: bool, here: bool
) -> Sequence[Line]:
    """Two lines: quantization, bits and size; the verdict and how far each cache setting reaches."""
    runs = prospect is None or prospect.verdict.runnable
    title = one_line(model.quant or model.path)
    bits = f"  {prospect.bits:.1f} bits per weight" if prospect and prospect.bits else ""
    note = "  here already" if here else f"  {g.dot} best for this computer" if best else ""
    left = [
        Piece(f" {g.mark if best else ' '} ", "current"),
        Piece(clip_middle(title, max(8, width - 15)), "current" if best else "value" if runs else "faint"),
    ]
    room = width - 14 - sum(len(p.text) for p in left)
    for text, tone in ((note, "current"), (bits, "faint")):
        if text and len(text) <= room:
            left.append(Piece(text, tone))
            room -= len(text)
    top = sides(left, (Piece(fit(size(model.size), 10, ">"), "muted"), Piece(" ")), width)
    if prospect is None:
        return [top, (Piece("   "), Piece("reading its header ...", "faint"))]
    verdict = prospect.verdict
    if not verdict.runnable:
        said = one_line(f"{verdict.sentence} {verdict.instead}".rstrip())
        return [top, (Piece("   "), Piece(fit(said, width - 4), "warning"))]
    reach = [
        f"{row.type_k if row.type_k == row.type_v else f'{row.type_k}/{row.type_v}'} {tokens(row.max_ctx)}"
        for row in verdict.rows
        if not row.refused and row.max_ctx
    ]
    said = one_line(verdict.sentence)
    end = "  ".join(reach)
    while reach and len(said) + len(end) + 8 > width:
        reach.pop()
        end = "  ".join(reach)
    return [
        top,
        sides(
            (Piece("   "), Piece(fit(said, min(len(said), width - 4)), "muted")),
            (Piece(end, "faint"), Piece(" ")),
            width,
        ),
    ]
