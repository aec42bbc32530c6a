"""The four words for a loss, and how they stand in sentences."""

from __future__ import annotations

import pytest

from quantize.lab.loss import (
    EXACT_KLD,
    NO_LOSS,
    SMALL_KLD,
    UNKNOWN,
    VISIBLE_KLD,
    Loss,
    Verdict,
    better_sentence,
    breaks_sentence,
    kld_words,
    least_loss_first,
)

FLOOR = 0.002


def loss(kld: float, top1: float = 0.95, *, measured: bool = True) -> Loss:
    return Loss(kld, top1, FLOOR, measured, 96)


@pytest.mark.parametrize(
    ("kld", "top1", "verdict"),
    [
        (0.0, 1.0, Verdict.EXACT),
        (FLOOR + EXACT_KLD, 0.93, Verdict.EXACT),
        (FLOOR + EXACT_KLD + 1e-6, 0.93, Verdict.SMALL),
        (FLOOR + SMALL_KLD, 0.86, Verdict.SMALL),
        (FLOOR + SMALL_KLD, 0.84, Verdict.VISIBLE),
        (FLOOR + SMALL_KLD + 1e-6, 0.9, Verdict.VISIBLE),
        (FLOOR + VISIBLE_KLD, 0.73, Verdict.VISIBLE),
        (FLOOR + VISIBLE_KLD, 0.69, Verdict.BREAKS),
        (FLOOR + VISIBLE_KLD + 1e-6, 0.9, Verdict.BREAKS),
        (2.6, 0.36, Verdict.BREAKS),
    ],
)
def test_the_limits(kld: float, top1: float, verdict: Verdict) -> None:
    assert loss(kld, top1).verdict == verdict


def test_what_is_not_known_is_no_verdict() -> None:
    assert not UNKNOWN.known
    assert not UNKNOWN.breaks
    assert UNKNOWN.sentence == ""
    assert UNKNOWN.data()["verdict"] == "unknown"
    assert NO_LOSS.verdict == Verdict.EXACT


def test_sentences() -> None:
    assert loss(0.012, 0.96).sentence == "small loss (KLD 0.012, the next word differs in 4%)"
    guess = loss(0.02, measured=False)
    assert guess.sentence == "probably small loss (KLD about 0.020, estimated)"
    said = breaks_sentence("K in q4_0", loss(2.6, 0.06))
    assert said == "K in q4_0 breaks this model: 6% of the next words stay the same."
    said = breaks_sentence("K in tq3", loss(0.2, 0.82))
    assert said == "K in tq3 breaks this model: the next word differs in 18% (KLD 0.20)."
    assert "probably breaks" in breaks_sentence("K in q4_0", loss(2.6, 0.06, measured=False))
    assert (
        better_sentence("q8_0/tq3", "10.2", loss(0.01))
        == "q8_0/tq3 takes 10.2 KiB a token and loses nothing that you would see."
    )


@pytest.mark.parametrize(
    ("kld", "text"),
    [(0, "0"), (0.00003, "3e-5"), (0.0044, "0.0044"), (0.0123, "0.012"), (0.435, "0.43"), (2.61, "2.6")],
)
def test_two_digits(kld: float, text: str) -> None:
    assert kld_words(kld) == text


def test_what_nothing_can_tell_apart_keeps_its_order() -> None:
    items = {"q8_0": loss(FLOOR), "f16": NO_LOSS, "tq2": loss(0.3), "tq4": loss(FLOOR * 0.9)}
    assert least_loss_first(items, items.__getitem__) == ["q8_0", "f16", "tq4", "tq2"]
