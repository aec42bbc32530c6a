"""What is recommended, and why it says so."""

from __future__ import annotations

import numpy as np
import pytest

from app.lab.eval_report import verdict_data, verdict_lines
from quantize.cache_types import parse_pair
from quantize.lab.evaluate import Row
from quantize.lab.parked import ParkedSetting
from quantize.lab.verdict import judge, pareto_front
from tests.lab.rows import row

F16 = row("f16", 1000, 0.0)


def labels(rows: list[Row]) -> list[str]:
    return [r.label for r in rows]


def undominated(rows: list[Row]) -> set[str]:
    """By the definition: no other one is as small and as close, and better in one of the two."""
    points = [(r.label, r.size, r.kld_mean) for r in rows if r.kld_mean is not None]
    return {
        label
        for label, size, kld in points
        if not any(s <= size and k <= kld and (s < size or k < kld) for _, s, k in points)
    }


def test_the_front_holds_the_undominated_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        n = int(rng.integers(1, 12))  # few values: many of them are equal
        rows = [
            row(f"q4_0+{i + 1}", int(rng.integers(1, 7)), int(rng.integers(0, 7)) / 100) for i in range(n)
        ]
        rows.append(row("tq2", 1, None, failed="It could not be measured."))
        front = pareto_front(rows)
        assert set(labels(front)) == undominated(rows)
        assert [r.size for r in front] == sorted(r.size for r in front)


def test_the_smallest_that_is_close_enough() -> None:
    rows = [
        F16,
        row("q8_0", 530, 0.001),
        row("q4_0", 280, 0.019),
        row("tq3", 200, 0.021),
        row("tq2", 130, 0.2),
    ]
    verdict = judge(rows)
    assert verdict is not None and verdict.tight is not None
    assert (verdict.recommended.label, verdict.tight.label) == ("q4_0", "tq3")
    assert verdict.why.startswith("28% of the memory of f16; perplexity +0.0%")
    assert verdict.why_tight.startswith("20% of the memory of f16")


def test_a_larger_perplexity_forbids_it() -> None:
    rows = [F16, row("q8_0", 530, 0.001, ppl=10.09), row("q4_0", 280, 0.01, ppl=10.2)]
    verdict = judge(rows)
    assert verdict is not None and verdict.tight is not None
    assert (verdict.recommended.label, verdict.tight.label) == ("q8_0", "q4_0")
    assert "perplexity +0.9%" in verdict.why


def test_lost_facts_forbid_it() -> None:
    exact = row("f16", 1000, 0.0, answers="1" * 20)
    some = row("q8_0", 530, 0.001, answers="1" * 18 + "00")
    few = row("q4_0", 280, 0.01, answers="1" * 17 + "000")
    verdict = judge([exact, some, few])
    assert verdict is not None and verdict.recommended is some and verdict.tight is few
    assert "18 of 20 facts found again (f16: 20)" in verdict.why


def test_a_model_that_finds_nothing_says_nothing_about_recall() -> None:
    exact = row("f16", 1000, 0.0, answers="1" * 4 + "0" * 16)
    none = row("q4_0", 280, 0.01, answers="0" * 20)
    verdict = judge([exact, none])
    assert verdict is not None and verdict.recommended is none
    assert "recall did not count" in verdict.why and "facts found" not in verdict.why


def test_without_anything_good_f16_stays() -> None:
    verdict = judge([F16, row("q2_0", 150, 2.0)])
    assert verdict is not None and verdict.recommended is F16 and verdict.tight is None
    assert verdict.why == "None of the smaller settings that were measured comes close enough to it."
    assert verdict_data(verdict) == {
        "recommended": "f16",
        "why": verdict.why,
        "tight": None,
        "why_tight": "",
    }


def test_without_the_reference_there_is_none() -> None:
    assert judge([]) is None
    assert judge([row("f16", 1000, None, failed="No."), row("q8_0", 530, 0.001)]) is None
    assert verdict_lines(None, [], colour=False) == []
    assert verdict_data(None)["recommended"] is None


def test_the_sentences() -> None:
    rows = [F16, row("q5_0", 600, 0.005), row("q8_0", 530, 0.001), row("q4_0", 280, 0.05)]
    worth, recommended, tight = verdict_lines(judge(rows), rows, colour=False)
    assert worth == "Worth their bytes: q4_0, q8_0, f16"
    assert recommended.startswith("Recommended: q8_0  53% of the memory of f16; ")
    assert tight.startswith("Where memory is tight: q4_0  28% of the memory of f16; ")


@pytest.mark.parametrize("kld", [0.01, 0.05])
def test_a_parked_conversation_takes_disk_and_no_memory(kld: float) -> None:
    rows = [F16, row(ParkedSetting(parse_pair("f16"), codec="learned"), 120, kld)]
    text = "\n".join(verdict_lines(judge(rows), rows, colour=False)[1:])
    assert "park learned" in text and "12% of the size of f16, on the disk; perplexity" in text
    assert "memory" not in text
