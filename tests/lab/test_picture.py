"""The picture is a drawing that every program reads, with a point for every setting."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from quantize.lab.evaluate import Row
from quantize.lab.picture import FRAME, draw
from quantize.lab.verdict import pareto_front
from tests.lab.rows import row

SVG = "{http://www.w3.org/2000/svg}"

ROWS = [
    row("f16", 1000, 0.0),
    row("q8_0", 531, 0.0007),
    row("q5_0", 600, 0.004),  # q8_0 is smaller and closer
    row("q4_0", 281, 0.017),
    row("tq4", 258, 0.012),
    row("tq2", 130, 0.21),
    row("q2_0", 140, 1.9),
    row("tq3", 190, None, failed="It could not be measured."),
]


def parse(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return root


def circles(root: ElementTree.Element, kind: str) -> dict[str, tuple[float, float]]:
    """Places of the points of a kind by label."""
    found = {}
    for circle in root.iter(f"{SVG}circle"):
        if circle.get("class") == kind:
            title = circle.findtext(f"{SVG}title", "")
            found[title.split(":")[0]] = (float(circle.get("cx", "")), float(circle.get("cy", "")))
    return found


def texts(root: ElementTree.Element) -> list[str]:
    return [t.text or "" for t in root.iter(f"{SVG}text")]


def test_points_front_and_the_recommended_one() -> None:
    root = parse(draw(ROWS, title="A model", subtitle="Some prose", recommended="tq4"))
    best, others = circles(root, "best"), circles(root, "point")
    assert set(best) == {"f16", "q8_0", "tq4", "tq2"}
    assert set(others) == {"q5_0", "q4_0", "q2_0"}
    assert circles(root, "chosen") == {"": best["tq4"]}
    (line,) = root.iter(f"{SVG}polyline")
    corners = [tuple(map(float, pair.split(","))) for pair in (line.get("points") or "").split()]
    assert corners == [best[r.label] for r in pareto_front(ROWS)]
    for label in (*best, *others):
        assert texts(root).count(label) == 1
    assert "tq3" not in texts(root)
    assert texts(root)[:2] == ["A model", "Some prose"]


def test_smaller_is_left_and_closer_is_lower() -> None:
    root = parse(draw(ROWS, title=""))
    places = circles(root, "best") | circles(root, "point")
    shown = [r for r in ROWS if r.kld_mean is not None]
    by_size = sorted(shown, key=lambda r: r.size)
    assert [places[r.label][0] for r in by_size] == sorted(x for x, _ in places.values())
    by_kld = sorted(shown, key=lambda r: -(r.kld_mean or 0))
    assert [places[r.label][1] for r in by_kld] == sorted(y for _, y in places.values())
    assert places["f16"][1] == FRAME.bottom_edge


@pytest.mark.parametrize("seed", range(8))
def test_everything_stays_inside_and_no_label_covers_another(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [row("f16", 4096, 0.0)]
    rows += [row(f"q4_0+{i}", rng.uniform(400, 4000), 10 ** rng.uniform(-5, 1)) for i in range(1, 10)]
    root = parse(draw(rows, title="x"))
    for x, y in (circles(root, "best") | circles(root, "point")).values():
        assert FRAME.left <= x <= FRAME.right_edge and FRAME.top <= y <= FRAME.bottom_edge + 0.1
    labels = [t for t in root.iter(f"{SVG}text") if (t.text or "").startswith(("f16", "q4_0"))]
    boxes = [(float(t.get("x", "")), float(t.get("y", "")), 7.0 * len(t.text or "")) for t in labels]
    assert len(boxes) == 10
    for i, (x, y, width) in enumerate(boxes):
        assert x >= FRAME.left and x + width <= FRAME.width
        for other_x, other_y, other_width in boxes[:i]:
            apart = x + width <= other_x + 1 or other_x + other_width <= x + 1 or abs(y - other_y) >= 14
            assert apart, "two labels cover each other"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row("f16", 1000, None, failed="No.")],
        ROWS[:1],
        [row("q4_0", 281, 0.017)],
        [ROWS[0], row("q2_0", 5e7, 1e-13)],
        [ROWS[0], row("q2_0", 0.3, 80.0)],
    ],
    ids=["nothing", "nothing measured", "f16 alone", "no f16", "tiny KLD, large cache", "huge KLD"],
)
def test_unusual_tables(rows: list[Row]) -> None:
    svg = draw(rows, title="x", recommended="f16")
    parse(svg)
    assert not re.search(r"\b(nan|inf)\b", svg)


def test_a_hostile_name_stays_text() -> None:
    name = "</text><script>alert(1)</script>&\"'\x00\x1b[31m\ud800" + "x" * 200
    root = parse(draw(ROWS, title=name, subtitle=name))
    assert not list(root.iter(f"{SVG}script"))
    assert texts(root)[0].startswith("</text><script>alert(1)</script>&\"'\ufffd\ufffd[31m\ufffdxxx")
    assert len(texts(root)[0]) == 80
