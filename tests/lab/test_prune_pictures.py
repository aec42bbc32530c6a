"""The pictures of the ways to prune say what was measured."""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.prune_pictures import curves, draw, table

ANSWERS = {
    "full": "1111",
    "kvzip:50": "1111",
    "kvzip:5": "0001",
    "kvzip:50:whole": "0011",
    "leverage:50": "0111",
    "kvzip:25@tq3+256": "0000",
}


def test_what_belongs_to_a_curve() -> None:
    found = curves(ANSWERS)
    assert [keep for keep, _ in found["kvzip"]] == [0.05, 0.5, 1.0]
    assert [right for _, right in found["kvzip:whole"]] == ["0011", "1111"]
    assert set(found) == {"kvzip", "kvzip:whole", "leverage"}


def test_a_point_for_every_share_at_its_height() -> None:
    found = curves(ANSWERS)
    root = ElementTree.fromstring(draw("kvzip", found, "4 <facts>"))
    points = root.findall(".//{*}circle")
    assert [p.findtext("{*}title", "").split(",")[0] for p in points] == ["1 of 4", "4 of 4", "4 of 4"]
    heights = [float(p.get("cy", "")) for p in points]
    assert heights[0] > heights[1] == heights[2]
    places = [float(p.get("cx", "")) for p in points]
    assert places == sorted(places)
    kinds = [e.get("class") for e in root.findall(".//{*}polyline")]
    assert sorted(kinds, key=str) == ["line", "other", "whole"]


def test_the_same_figures_as_a_table() -> None:
    head, _, *rows = table(curves(ANSWERS))
    assert head == "| | 50% | 5% |"
    assert rows[0] == "| `kvzip` | 1.000 (.51-1.00) | .250 (.05-.70) |"
    assert rows[2] == "| `leverage` | .750 (.30-.95) |  |"
