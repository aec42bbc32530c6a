"""The picture of parking: every setting where its figures are, and bounds on the right side of it."""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.park_picture import Point, Wanted, draw

SVG = "{http://www.w3.org/2000/svg}"
POINTS = [
    Point("learned", "learned:0.02", 9.0, 0.0008),
    Point("learned", "learned:0.1", 29.0, 0.006),
    Point("ggml", "ggml:q8_0", 1.9, 0.0004),
    Point("ggml", "ggml:q4_0", 3.4, 0.002),
    Point("ggml", "ggml:f16", 1.0, 0.0),
]


def drawing(points: list[Point], floor: float = 0.0003) -> ElementTree.Element:
    return ElementTree.fromstring(draw(points, "a <model>", "a text", floor, [Wanted(12, 0.0035)]))


def dots(root: ElementTree.Element) -> dict[str, tuple[float, float]]:
    found = {}
    for circle in root.iter(f"{SVG}circle"):
        label = circle.findtext(f"{SVG}title", "").rpartition(": ")[0]
        found[label] = (float(circle.get("cx", "")), float(circle.get("cy", "")))
    return found


def lines(root: ElementTree.Element, kind: str) -> list[list[tuple[float, float]]]:
    found = []
    for line in root.iter(f"{SVG}polyline"):
        if line.get("class", "").split()[0] == kind:
            pairs = (pair.split(",") for pair in (line.get("points") or "").split())
            found.append([(float(x), float(y)) for x, y in pairs])
    return found


def test_smaller_is_further_right_and_closer_is_lower() -> None:
    places = dots(drawing(POINTS))
    by_ratio = sorted((p for p in POINTS if p.kld), key=lambda p: p.ratio)
    by_kld = sorted((p for p in POINTS if p.kld), key=lambda p: p.kld, reverse=True)
    assert set(places) == {p.label for p in by_ratio}  # zero has no place on a logarithmic axis
    assert [places[p.label][0] for p in by_ratio] == sorted(x for x, _ in places.values())
    assert [places[p.label][1] for p in by_kld] == sorted(y for _, y in places.values())


def test_a_line_for_each_codec_and_its_name() -> None:
    root = drawing(POINTS)
    places = dots(root)
    assert sorted(lines(root, "line")) == sorted(
        [
            [places["learned:0.02"], places["learned:0.1"]],
            [places["ggml:q8_0"], places["ggml:q4_0"]],
        ]
    )
    names = [t.text for t in root.iter(f"{SVG}text") if t.get("class", "").startswith("name")]
    assert sorted(names, key=str) == ["ggml", "learned"]


def test_what_keeps_within_a_bound_stands_in_its_corner() -> None:
    kept, larger, worse = (
        Point("learned", label, ratio, kld)
        for label, ratio, kld in (("kept", 12.5, 0.0034), ("larger", 11.5, 0.0034), ("worse", 12.5, 0.0036))
    )
    root = drawing([*POINTS, kept, larger, worse])
    places = dots(root)
    ((_, (x, y), _),) = lines(root, "wanted")
    assert places["kept"][0] > x and places["kept"][1] > y
    assert places["larger"][0] < x
    assert places["worse"][1] < y


def test_the_floor_stands_at_its_figure() -> None:
    root = drawing(POINTS, floor=0.0004)
    (line,) = (line for line in root.iter(f"{SVG}line") if line.get("class") == "floor")
    assert float(line.get("y1", "")) == dots(root)["ggml:q8_0"][1]
    assert not any(line.get("class") == "floor" for line in drawing(POINTS, floor=0.0).iter(f"{SVG}line"))
