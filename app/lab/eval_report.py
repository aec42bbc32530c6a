"""How an evaluation is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.engine.words import size
from app.lab.table import Column, Table, number, styled
from app.plain_text import one_line
from quantize.lab.parked import ParkedSetting
from quantize.lab.verdict import Verdict, pareto_front

if TYPE_CHECKING:
    from quantize.lab.candidate import Candidate
    from quantize.lab.evaluate import Floor, Row


FLOOR = "noise floor"


class EvalTable:
    """A row per setting, printed when it is measured."""

    def __init__(self, candidates: Sequence[Candidate], n_ctx: int, *, recall: bool, colour: bool) -> None:
        self._colour = colour
        widest = max(len(c.setting.label) for c in candidates)
        columns = [
            Column("cache", max(widest, len(FLOOR)), left=True),
            Column("bits K/V", 11, rank=4),
            Column("per token", 9, rank=2),
            Column(f"at {n_ctx:,}", 9, rank=5),
            Column("KLD mean", 8),
            Column("median", 7, rank=3),
            Column("99.9%", 7, rank=1),
            Column("top-1", 6),
            Column("perplexity", 10),
        ]
        if recall:
            columns += [Column("recall", 9), Column("95%", 9, rank=6)]
        self._table = Table(columns)
        self._ppl: float | None = None

    def head(self) -> str:
        """The titles."""
        return self._table.head(colour=self._colour)

    def row(self, row: Row) -> str:
        """One setting; the first one is the reference."""
        if row.failed and row.kld_mean is None:
            return f"{row.label}  {styled(one_line(row.failed), 'dim', colour=self._colour)}"
        if self._ppl is None:
            self._ppl = row.ppl
        exact = row.kld_mean == 0
        worse = bool(self._ppl and row.ppl and row.ppl > 1.05 * self._ppl)
        cells = [
            row.label,
            f"{row.bits_k:.4g} / {row.bits_v:.4g}",
            size(row.bytes_per_token),
            size(row.kv_bytes),
            "exact" if exact else number(row.kld_mean),
            "" if exact else number(row.kld_median, 4),
            "" if exact else number(row.kld_p999, 3),
            "" if exact or row.top1 is None else f"{row.top1:.1%}",
            f"{row.ppl:.3f}" if row.ppl and row.ppl < 1e4 else f"{row.ppl or 0:.2e}",
            f"{row.recall_hits} of {row.recall_asked}" if row.recall is not None else "",
            f"{row.recall_low:.2f}-{row.recall_high:.2f}".replace("0.", ".")
            if row.recall_low is not None
            else "",
        ]
        styles = ["bold", "dim", "", "", "", "dim", "dim", "", "bad" if worse else "", "", "dim"]
        line = self._table.line(cells, styles, colour=self._colour)
        return f"{line}  {one_line(row.failed)}" if row.failed else line

    def floor(self, floor: Floor) -> str:
        """The loss that rounding noise makes; empty if it is not known."""
        if floor.kld_mean is None:
            return ""
        figures = [
            number(floor.kld_mean),
            number(floor.kld_median, 4),
            number(floor.kld_p999, 3),
            f"{floor.top1:.1%}" if floor.top1 is not None else "",
        ]
        cells = [FLOOR, "", "", "", *figures, "", "", ""]
        return self._table.line(cells, ["dim"] * len(cells), colour=self._colour)


def floor_lines(floor: Floor | None, rows: Sequence[Row]) -> list[str]:
    """What the noise floor means, in sentences."""
    if floor is None or floor.kld_mean is None:
        return [f"The noise floor is not known: {one_line(floor.failed)}"] if floor is not None else []
    if not floor.kld_mean:
        return ["Rounding noise on K and V changes no answer here: every difference counts."]
    out = [
        f"Differences below {number(floor.kld_mean)} mean nothing: noise of half an f16 rounding step on K"
        f" and V makes as much, and leaves {floor.top1 or 0:.1%} of the next tokens the same."
    ]
    within = [r.label for r in rows if r.kld_mean is not None and 0 < r.kld_mean <= floor.kld_mean]
    if within:
        out.append(f"Not to be told from f16: {', '.join(within)}")
    return out


def verdict_lines(verdict: Verdict | None, rows: Sequence[Row], *, colour: bool) -> list[str]:
    """What to take, in sentences."""
    if verdict is None:
        return []
    front = ", ".join(row.label for row in pareto_front(rows))
    out = [
        f"Worth their bytes: {front}",
        styled("Recommended: ", "bold good", colour=colour)
        + styled(verdict.recommended.label, "bold", colour=colour)
        + f"  {verdict.why}",
    ]
    if verdict.tight is not None:
        label = styled(verdict.tight.label, "bold", colour=colour)
        where = "the disk" if verdict.tight.kind == ParkedSetting.kind else "memory"
        out.append(f"Where {where} is tight: {label}  {verdict.why_tight}")
    return out


def verdict_data(verdict: Verdict | None) -> dict[str, Any]:
    """For JSON."""
    if verdict is None:
        return {"recommended": None, "why": "", "tight": None, "why_tight": ""}
    return {
        "recommended": verdict.recommended.label,
        "why": verdict.why,
        "tight": verdict.tight.label if verdict.tight else None,
        "why_tight": verdict.why_tight,
    }
