"""What a prune would leave out, before it does: the conversation as a strip, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from app.chat import format
from app.chat.screens.dialog import Dialog
from quantize.errors import StretchError

if TYPE_CHECKING:
    from app.chat.session import Session
    from app.engine.protocol import PrunePreview

SHADES = " ░▒▓█"


def strip(shares: Sequence[float], width: int) -> str:
    """The conversation from its beginning to its end: the fuller a cell, the more of that part stays."""
    if not shares or width <= 0:
        return ""
    out = []
    for i in range(width):
        part = shares[
            i * len(shares) // width : max((i + 1) * len(shares) // width, i * len(shares) // width + 1)
        ]
        mean = sum(part) / len(part)
        out.append(SHADES[min(len(SHADES) - 1, int(mean * (len(SHADES) - 1) + 0.5))])
    return "".join(out)


class PruneDialog(Dialog):
    """Shows what would go; Enter prunes, Esc leaves everything as it is."""

    HEADING = "Prune the cache"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "prune", "prune")]

    def __init__(self, session: Session, keep: float, policy: str, whole: bool) -> None:
        super().__init__()
        self._session = session
        self._wish = (keep, policy, whole)
        self._text = Static("Looking at the conversation ...", id="shown", markup=False)
        self._shown: PrunePreview | None = None
        self._looking = True

    def body(self) -> Iterable[Widget]:
        yield self._text

    def on_mount(self) -> None:
        self._look()

    @work(exclusive=True, group="prune-preview")
    async def _look(self) -> None:
        try:
            shown = await self._session.prune.preview(*self._wish)
        except StretchError as error:
            self._looking = False
            self._text.update(Content(str(error)))
            return
        self._looking = False
        self._shown = shown
        self._text.update(Content("\n").join(map(Content, self.lines(shown, max(20, self._text.size.width)))))

    @staticmethod
    def lines(shown: PrunePreview, width: int) -> list[str]:
        """What is said of a preview."""
        gone = shown.n_before - shown.n_after
        probe = (
            f"KLD {shown.kld:.4f}, next token the same for {shown.top1:.0%} of the newest {shown.n_probe}"
            if shown.n_probe
            else "not measured: too few tokens"
        )
        return [
            strip(shown.strip, width),
            f"{'first':<{width - 6}}newest",
            "",
            f"Keeps {shown.title} ({shown.policy}).",
            f"Tokens  {format.count(shown.n_after)} of {format.count(shown.n_before)} stay, "
            f"{format.count(gone)} go",
            f"Room    {format.size(shown.bytes_freed)} of the context are free again",
            f"Loss    {probe}",
            "",
            "F7 brings everything back.",
        ]

    def action_prune(self) -> None:
        """Do what is shown."""
        if self._shown is None:
            self.app.bell()
            return
        self._session.prune.do(*self._wish)
        self.dismiss()

    def action_back(self) -> None:
        """Leave everything as it is."""
        if self._looking:
            self._session.prune.stop()
        self.dismiss()
