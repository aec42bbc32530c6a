"""All quantizations of a model side by side, for a plain terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.fetch.wanted import Wanted
    from models.hub.prospects import Prospect


def rows_of(prospect: Prospect) -> str:
    """``f16 12k  q8_0 23k  q4_0 40k``: how far each setting of the cache reaches."""
    from models.local import tokens

    parts = []
    for row in prospect.verdict.rows:
        if not row.refused and row.max_ctx:
            label = row.type_k if row.type_k == row.type_v else f"{row.type_k}/{row.type_v}"
            parts.append(f"{label} {tokens(row.max_ctx)}")
    return "  ".join(parts)


def data_of(prospect: Prospect, *, best: bool, repo: str) -> dict[str, Any]:
    """For ``--json``."""
    verdict = prospect.verdict
    return {
        "name": f"{repo}/{prospect.model.path}",
        "quantization": prospect.model.quant,
        "bytes": prospect.model.size,
        "bits_per_weight": round(prospect.bits, 2),
        "runs": verdict.runnable,
        "verdict": verdict.sentence,
        "instead": verdict.instead,
        "best": best,
        "reach": {
            (row.type_k if row.type_k == row.type_v else f"{row.type_k}/{row.type_v}"): row.max_ctx
            for row in verdict.rows
            if not row.refused
        },
    }


def lines_of(wanted: Wanted, *, colour: bool) -> list[str]:
    """A line for each quantization, the best one marked."""
    from app.engine.words import size
    from app.lab.table import styled
    from app.plain_text import one_line

    width = max(len(_label(p)) for p in wanted.all)
    out = []
    for p in wanted.all:
        best = p.model == wanted.model
        mark = "*" if best else " "
        bits = f"{p.bits:4.1f} bits" if p.bits else " " * 9
        said = one_line(p.verdict.sentence, 100)
        line = f"{mark} {_label(p):<{width}}  {size(p.model.size):>9}  {bits}  "
        style = "mark bold" if best else ""
        out.append(
            styled(line, style, colour=colour)
            + styled(said, "" if p.verdict.runnable else "dim", colour=colour)
        )
        if best:
            out.append(f"  {'':{width}}  {'':9}  {'':9}  " + styled(rows_of(p), "dim", colour=colour))
    return out


def _label(prospect: Prospect) -> str:
    from app.plain_text import one_line

    return prospect.model.quant or one_line(prospect.model.path, 40)
