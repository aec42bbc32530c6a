"""How a benchmark is printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.engine.words import size
from app.lab.table import Column, Table, styled
from app.plain_text import one_line

if TYPE_CHECKING:
    from quantize.lab.benchmark import BenchFailure, BenchPlan, SpeedRow, SwitchRow


def bench_lines(
    name: str,
    plan: BenchPlan,
    rows: Sequence[SpeedRow],
    switches: Sequence[SwitchRow],
    failures: Sequence[BenchFailure],
    *,
    colour: bool,
) -> list[str]:
    """The tables: one per depth, a line per setting with both kernels side by side."""
    widest = max([5, *(len(row.label) for row in rows)])
    out = [f"{one_line(name, 60)}: tokens per second, median of {plan.repeats}"]
    for depth in plan.depths:
        here = [row for row in rows if row.depth == depth]
        if here:
            out += ["", *_depth_lines(depth, here, widest, colour=colour)]
    timed = [s for s in switches if s.switch_s is not None]
    if timed:
        times = ", ".join(f"{s.label} {1000 * (s.switch_s or 0):.0f} ms" for s in timed)
        out += ["", f"A change from f16 at {timed[0].n_tokens:,} tokens: {times}"]
    out += [f"{s.label}: no change without reading again. {one_line(s.reason)}" for s in switches if s.reason]
    if failures:
        out.append("")
        reasons: dict[tuple[str, str], list[str]] = {}
        for failure in failures:
            reasons.setdefault((failure.label, failure.reason), []).append(failure.kernel)
        for (label, reason), kernels in reasons.items():
            out.append(styled(f"{label} ({' and '.join(kernels)}): {one_line(reason)}", "bad", colour=colour))
    return out


def _depth_lines(depth: int, rows: Sequence[SpeedRow], widest: int, *, colour: bool) -> list[str]:
    wide = max(widest, len(f"depth {depth:,}"))
    table = Table(
        [
            Column(f"depth {depth:,}", wide, left=True),
            Column("per token", 9, rank=3),
            Column("stock", 8),
            Column("own", 8),
            Column("vs f16", 8),
            Column("vs stock", 9, rank=2),
            Column("", 1),
            Column("stock", 8),
            Column("own", 8),
            Column("vs f16", 8),
            Column("vs stock", 9, rank=2),
        ]
    )
    over = table.line(["", "", "prefill", "", "", "", "", "decode", "", "", ""])
    out = [styled(over, "dim", colour=colour), table.head(colour=colour)]
    for label in dict.fromkeys(row.label for row in rows):
        mine = {row.kernel: row for row in rows if row.label == label}
        first, stock, own = next(iter(mine.values())), mine.get("stock"), mine.get("own")
        shown = own or stock
        cells = [label, size(first.bytes_per_token)]
        for side in ("prefill", "decode"):
            cells += [
                _speed(getattr(stock, f"{side}_tps", None)),
                _speed(getattr(own, f"{side}_tps", None)),
                _times(getattr(shown, f"{side}_vs_f16", None)),
                _times(getattr(own, f"{side}_vs_stock", None)),
                "",
            ]
        styles = ["bold", "dim"] + [_style(cell) for cell in cells[2:]]
        out.append(table.line(cells[:-1], styles, colour=colour))
    return out


def _speed(tps: float | None) -> str:
    return "" if tps is None else f"{tps:,.0f}" if tps >= 99.5 else f"{tps:,.1f}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def _style(cell: str) -> str:
    """Green for a ratio of 1 and more, red for one that is clearly less."""
    if not cell.endswith("x"):
        return ""
    ratio = float(cell[:-1])
    return "good" if ratio >= 1 else "bad" if ratio < 0.95 else ""
