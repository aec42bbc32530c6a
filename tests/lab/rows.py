"""Rows of a table as a measurement would make them."""

from __future__ import annotations

from typing import Any

from quantize.lab.candidate import Candidate
from quantize.lab.evaluate import FIGURES, Row, make_row
from quantize.lab.setting import Setting, parse_setting

N_CTX = 1000


def row(
    setting: str | Setting,
    size: float,
    kld: float | None,
    *,
    ppl: float = 10.0,
    answers: str = "",
    failed: str = "",
) -> Row:
    """One setting of ``size`` bytes per token; without a KLD it was not measured."""
    setting = parse_setting(setting) if isinstance(setting, str) else setting
    figures: dict[str, Any] | None = None
    if kld is not None:
        figures = {**dict.fromkeys(FIGURES, 0.5), "kld_mean": kld, "ppl": ppl, "kernel": "own"}
    price = Candidate(setting, 16, 16, size, round(size * N_CTX), 0, 0)
    return make_row(price, N_CTX, figures, answers, failed)
