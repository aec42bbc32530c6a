"""What the pictures are drawn with: places, marks, and colours for light and for dark."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.lab import svg
from quantize.lab.svg import Frame, Scale

FRAME = Frame(width=300, height=200, left=40, right=20, top=30, bottom=50)


@given(st.floats(1e-9, 1e9), st.integers(2, 12))
def test_marks_stand_at_round_figures_and_are_not_too_many(span: float, marks: int) -> None:
    step = svg.round_step(span, marks)
    assert span / step <= marks * 1.002
    assert span / step > marks / 2.6
    assert re.fullmatch(r"(1|2|2\.5|5)(\.?0*)?e[+-]\d+", f"{step:.1e}")


def test_a_logarithmic_scale_has_a_place_for_zero() -> None:
    scale = Scale(0.01, 100.0, 150.0, 30.0, logarithmic=True)
    assert scale(0.0) == scale(0.01) == 150.0
    assert scale(1.0) == pytest.approx(90.0)
    assert scale(100.0) == pytest.approx(30.0)


def test_decades_hold_every_figure_and_are_never_none() -> None:
    assert svg.decades([0.003, 0.2]) == (0.001, 1.0)
    assert svg.decades([1.0]) == (1.0, 10.0)
    names = [name for _, name in svg.powers(1e-5, 1000.0)]
    assert names == ["1e-5", "1e-4", ".001", ".01", ".1", "1", "10", "100", "1,000"]


def test_every_rule_stands_there_in_light_and_in_dark() -> None:
    drawn = svg.document(FRAME, "t", [], rules=".mine { stroke: $blue; }")
    light, dark = re.findall(r"\.mine { stroke: (#\w+); }", drawn)
    assert light != dark
    assert drawn.index("@media") < drawn.index(dark)
    with pytest.raises(KeyError):
        svg.document(FRAME, "t", [], rules=".mine { stroke: $bleu; }")


def test_words_cannot_become_markup() -> None:
    bad = "</text><script/>\x1b"
    body = [svg.text("soft", 0, 0, bad), svg.circle("c", 0, 0, 1, bad), svg.side(FRAME, bad)]
    body += svg.foot(FRAME, Scale(0, 1, 0, 1), [(0, bad)], bad)
    root = ElementTree.fromstring(svg.document(FRAME, bad, body, subtitle=bad, note=bad))
    assert not list(root.iter("{*}script"))
    assert sum("<script/>" in (e.text or "") for e in root.iter()) == 9
